"""The language in a file's tag, where players look for it, as ISO 639-3 (in ID3: 639-2/T, which has the same codes).

`zxx` (nothing is sung) and `mul` (several languages) are codes of both standards, as MusicBrainz writes them.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mutagen
from mutagen.aac import AAC
from mutagen.apev2 import APEv2
from mutagen.flac import FLAC
from mutagen.id3 import ID3, TLAN, ID3NoHeaderError
from mutagen.mp4 import MP4FreeForm, MP4Tags
from mutagen.ogg import OggFileType

from app.catalogue.errors import TagRefused
from app.domain import MULTIPLE, NOTHING_SUNG

MP4_NAME = "----:com.apple.iTunes:LANGUAGE"  # as Picard and beets have it
APE_NAME, VORBIS_NAME = "Language", "LANGUAGE"
_WRITTEN = "MP3, AAC, FLAC, Ogg, Opus, MP4, AIFF, WAV, Matroska, WavPack, Musepack and Monkey's Audio"
_ID3_WRITTEN = (2, 3)  # the oldest version that mutagen writes
_MATROSKA_SUFFIXES = frozenset({".mka", ".mkv", ".webm"})
PATIENCE_SECONDS = 60.0
# Matroska has codes of ISO 639-2 for bibliographies beside BCP 47; where they differ from those of ISO 639-3:
_BIBLIOGRAPHIC = (
    "alb:sqi arm:hye baq:eus bur:mya chi:zho cze:ces dut:nld fre:fra geo:kat ger:deu gre:ell ice:isl mac:mkd mao:mri "
    "may:msa per:fas rum:ron slo:slk tib:bod wel:cym"
)
_ONLY_BCP47 = {"sh": "hbs"}


def code_of(answer: Mapping[str, Any]) -> str | None:
    """The code that a tag gets for an answer; None where the answer is not sure, or no single language."""
    language = answer["language"]
    if language in {NOTHING_SUNG, MULTIPLE}:
        return str(language)
    return next((entry["iso639_3"] for entry in answer["languages"] if entry["code"] == language), None)


def open_tag(path: Path) -> "MatroskaTag | MutagenTag":
    """The file's tag: `language` is the code that it holds, or "". Raises TagRefused."""
    if path.exists() and not path.is_file():  # a device would be read without end
        raise TagRefused("it is no regular file")
    return MatroskaTag(path) if path.suffix.lower() in _MATROSKA_SUFFIXES else MutagenTag(path)


class MatroskaTag:
    """The first audio track's language. A file that names none is English, as the standard says, unless it says `und`.

    MKVToolNix edits headers in place.
    """

    def __init__(self, path: Path) -> None:
        """Raises TagRefused."""
        found = json.loads(_run("mkvmerge", "--identify", "--identification-format", "json", path.absolute()))
        tracks = [track["properties"] for track in found.get("tracks", ()) if track["type"] == "audio"]
        if not tracks:
            raise TagRefused("the file has no audio track")
        code = str(tracks[0].get("language", "und"))
        code = _ONLY_BCP47.get(str(tracks[0].get("language_ietf")), code)
        self.language = "" if code == "und" else dict(pair.split(":") for pair in _BIBLIOGRAPHIC.split()).get(code, code)

    def write(self, code: str, path: Path) -> None:
        """Write the code into a copy of the file. Raises TagRefused."""
        _run("mkvpropedit", path.absolute(), "--edit", "track:a1", "--set", f"language={code}")


def _run(program: str, *arguments: str | Path) -> bytes:
    """Run a program of MKVToolNix; returns its output. Raises TagRefused."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, check=False, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        raise TagRefused(f"Matroska needs {program}: install MKVToolNix") from None
    except subprocess.TimeoutExpired:
        raise TagRefused(f"{program} took longer than {PATIENCE_SECONDS:g} s") from None
    if done.returncode > 1:  # 1: with warnings
        raise TagRefused(f"{program}: {done.stdout.decode(errors='replace').strip()[-200:]}")
    return done.stdout


class MutagenTag:
    """The language tag of every kind of file but Matroska."""

    def __init__(self, path: Path) -> None:
        """Raises TagRefused."""
        self._file = _opened(path)

    @property
    def language(self) -> str:
        tags = self._file.tags
        if isinstance(tags, ID3):
            return "/".join(str(text) for frame in tags.getall("TLAN") for text in frame.text)  # type: ignore[no-untyped-call]
        values = tags.get(self._name) or ()
        return "/".join([value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values])

    def write(self, code: str, path: Path) -> None:
        """Write the code into a copy of the file. ID3 keeps its version; 2.2, which mutagen cannot write, becomes 2.3."""
        tags = self._file.tags
        if not isinstance(tags, ID3):
            tags[self._name] = [MP4FreeForm(code.encode())] if isinstance(tags, MP4Tags) else code  # type: ignore[no-untyped-call]
            self._file.save(path)
            return
        # Latin-1, which every version reads
        tags.setall("TLAN", [TLAN(encoding=0, text=[code])])  # type: ignore[no-untyped-call]
        if tags.version < _ID3_WRITTEN:
            tags.update_to_v23()  # type: ignore[no-untyped-call]
        tags.save(path, v2_version=4 if tags.version >= (2, 4) else 3)

    @property
    def _name(self) -> str:
        tags = self._file.tags
        return MP4_NAME if isinstance(tags, MP4Tags) else APE_NAME if isinstance(tags, APEv2) else VORBIS_NAME


def _bare_aac(path: Path) -> Any:
    """ADTS has no tags; ID3 in front of it is what players and FFmpeg read, and mutagen skips."""
    file: Any = AAC(path)  # type: ignore[no-untyped-call]
    try:
        file.tags = ID3(path, translate=False)  # type: ignore[no-untyped-call]
    except ID3NoHeaderError:
        file.tags = ID3()  # type: ignore[no-untyped-call]
    return file


def _opened(path: Path) -> Any:
    """The file with tags, if only empty ones."""
    try:
        file = _bare_aac(path) if path.suffix.lower() == ".aac" else mutagen.File(path)
        if isinstance(file, AAC):
            return file
        if file is not None and isinstance(file.tags, ID3) and file.tags.version >= _ID3_WRITTEN:
            file = type(file)(path, translate=False)  # frames stay those of their version
        if file is not None and file.tags is None:
            file.add_tags()
    except Exception as error:  # mutagen's readers fail in many ways
        raise TagRefused(f"the tag cannot be read: {error}") from error
    if file is None or (not isinstance(file, (FLAC, OggFileType)) and not isinstance(file.tags, (ID3, APEv2, MP4Tags))):
        raise TagRefused(f"{path.suffix or 'this kind of file'} is not written; {_WRITTEN} are")
    return file
