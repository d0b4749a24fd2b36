"""Artist, album, title and lyrics from a file's tags, as they are written; the families clean them.

ID3v2, ID3v1 and APEv2 may stand before or behind any audio: mutagen reads them. The containers' own tags (Vorbis
comments, MP4's and Matroska's, RIFF INFO, AIFF's, an ID3 chunk in WAV or AIFF) FFmpeg has read already.
"""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import mutagen.apev2
import mutagen.id3

from app.domain import METADATA_FIELDS, Metadata, MetadataField

_NAMES: Mapping[MetadataField, tuple[str, ...]] = {  # in ID3, in APEv2, and as FFmpeg calls them; lower case
    "artist": ("tpe1", "tpe2", "artist", "author", "album_artist", "albumartist", "album artist"),
    "album": ("talb", "album", "product"),  # AVI's IPRD
    "title": ("tit2", "title"),
}
_LYRICS = ("uslt", "lyrics", "unsyncedlyrics", "unsynced lyrics")  # "USLT::eng", and "lyrics-eng" as FFmpeg calls it
_ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that are no UTF-8
_UNPAIRED = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_MAX_CHARACTERS = 2000  # of one field: a tag may hold anything
_APE_SEARCH_BYTES = 1 << 16  # ID3v1 and Lyrics3 may follow an APEv2 tag


def read_tags(data: bytes, container: Mapping[str, str]) -> Metadata:
    """The first text that each field has; `container`: FFmpeg's metadata, names in lower case."""
    sources = _sources(data, container)
    return Metadata(**{field: _first(sources, _NAMES[field]) for field in METADATA_FIELDS})


def read_lyrics(data: bytes, container: Mapping[str, str], most_characters: int) -> str | None:
    """The first lyrics that are not empty, cut to so many characters; `container` as for `read_tags`."""
    for source in _sources(data, container):
        for name in source:
            if re.split("[-:]", name)[0] in _LYRICS and (text := _text(source[name])):
                return text[:most_characters]
    return None


def _sources(data: bytes, container: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Tags by name in lower case, those that count first in front."""
    id3 = _read(mutagen.id3.ID3, data)  # in front, or version 1 at the end
    ape = _read(mutagen.apev2.APEv2, data) if b"APETAGEX" in data[-_APE_SEARCH_BYTES:] + data[:_APE_SEARCH_BYTES] else {}
    return [id3, ape, container] if data.startswith(b"ID3") else [ape, container, id3]


def _read(reader: Callable[[io.BytesIO], Any], data: bytes) -> Mapping[str, Any]:
    """Read tags by mutagen; empty for damaged ones, on which its readers fail in many ways."""
    try:
        return {str(name).lower(): value for name, value in reader(io.BytesIO(data)).items()}
    except Exception:
        return {}


def _first(sources: list[Mapping[str, Any]], names: tuple[str, ...]) -> str | None:
    texts = (_text(source.get(name)) for source in sources for name in names)
    return next((text[:_MAX_CHARACTERS] for text in texts if text), None)


def _text(value: Any) -> str:
    """The first of a tag's values that is not empty, without what cannot be written."""
    values = getattr(value, "text", value)  # ID3 frames keep theirs in `text`
    text = values if isinstance(values, str) else next((text for one in values or () if (text := str(one))), "")
    if text and not any(ord(letter) & 0xFF for letter in text):  # big-endian UTF-16 without its mark
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-be")
    if _ESCAPED.search(text):  # RIFF INFO and the like say nothing of their encoding: FFmpeg passed on its bytes
        text = _UNPAIRED.sub("", text).encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return _UNPAIRED.sub("", text).partition("\0")[0].strip()
