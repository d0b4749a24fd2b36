"""Artist, album and title as people and programs write them → the words that name the song.

What says nothing of the song's language is taken away, the same for tags and for what a request gives: placeholders
("Track 01", "Unknown Artist"), what video sites and catalogues add ("(Official Video)", "[id]", "- Remastered 2011"),
featured artists, HTML entities, zero-width characters. UTF-8 that was read as another encoding is repaired where that is
certain. A field of which nothing would be left stays as it is.
"""

import contextlib
import html
import re
import unicodedata

from app.domain import METADATA_FIELDS, Metadata

_MAX_REPAIRS = 2  # text is seldom encoded more than three times

# Not ZWNJ and ZWJ after letters of scripts that spell with them (Arabic to Tibetan, Khmer).
_ZERO_WIDTH = re.compile(
    "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]"
    "|(?<![\u0600-\u0fff\u1780-\u17ff])[\u200c\u200d]"
)
_PLACEHOLDER = re.compile(
    r"[\[(<{]?(?:"
    r"(?:\d+[ ._-]+)?"
    r"(?:(?:audio|cd)? ?track|titel|piste(?: audio)?|pista|faixa|traccia|spår|spor|utwór|ścieżka|трек|дорожка)[ _]?"
    r"(?:#|no\.? ?)?\d*\.?(?: of \d+)?"
    r"|(?:トラック|트랙|曲目|音轨)[ _]?\d*"
    r"|(?:titre|nummer|parça|skladba|raita|piesă|bài|(?:new )?recording|voice(?: (?:memo|note))?|aufnahme|enregistrement"
    r"|grabación|registrazione|gravação|opname|inspelning|nagranie|запись|录音|錄音|録音|녹음)[ _]?\d+"
    r"|(?:aud|audio|ptt|rec|vid|whatsapp audio)[ _-](?:wa)?\d[\d_-]*(?:wa\d+| at [\d.]+)?|track[ _]?\d+ - unknown"
    r"|(?:okänd|ukjent|ukendt) (?:artist|kunstner|album)|nieznany (?:wykonawca|artysta|album)|onbekende? (?:artiest|album)"
    r"|bilinmeyen (?:sanatçı|albüm)|neznámý (?:umělec|interpret|album)|tuntematon (?:esittäjä|artisti|albumi)"
    r"|ismeretlen (?:előadó|album)|невідомий (?:виконавець|альбом)|未知(?:藝人|藝術家|艺人)|不明なアルバム"
    r"|unknown(?: (?:artist|album|title|track|performer))?|no (?:artist|album|title)|untitled(?: track)?(?: \d+)?"
    r"|undefined|null|nil|none|nan|n/?a|various(?: artists)?|v[./]? ?a\.?|varios artistas|artistes divers|vari artisti"
    r"|verschiedene (?:interpreten|künstler)|разные исполнители|s(?:in|em) título|sans titre|senza titolo|ohne titel"
    r"|unbekannte[rs]? (?:interpret|künstler|album|titel)|(?:artiste|album|titre) inconnu"
    r"|(?:artista|álbum|título) (?:desconocid|desconhecid)o|(?:artista|album|titolo) sconosciuto"
    r"|неизвестный (?:исполнитель|альбом)|без названия|不明なアーティスト|未知(?:艺术家|歌手|专辑)?|알 수 없는 아티스트"
    r")(?: \([\d/.:, apm-]+\))?(?:\.(?:mp3|m4a|wav|flac|ogg|wma))?[\])>}]?|[\W_]+",
    re.IGNORECASE,
)
_REMASTERED = r"remaster\w*|official|oficial|officiel(?:le)?|ufficiale|offizielle[rs]?|lyrics?|version|edit|mix"
_ADDED_WORDS = re.compile(
    rf"(?:{_REMASTERED}|music|video|vídeo|vidéo|videoclip|musikvideo|clip|clipe|audio|visuali[sz]er|hd|hq|uhd|4k|1080p|720p"
    r"|m/?v|explicit|clean|stereo|mono|album|single|radio|original|extended|bonus|track|deluxe|edition|live|acoustic"
    r"|remix|full|digital|with|on|screen|letra|paroles|testo|клип|официальный|видео|뮤직비디오|官方(?:mv)?)",
    re.IGNORECASE,
)
_OPEN, _CLOSE = r"[(\[{（【「]", r"[)\]}）】」]"
_BRACKETS = re.compile(rf"\s*{_OPEN}([^()\[\]{{}}（）【】「」]*){_CLOSE}")
_VIDEO_ID = re.compile(r"(?=.*(?:[\d_-]|[a-z][A-Z]))[\w-]{11}", re.ASCII)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z]{2,31}\d{0,2});", re.IGNORECASE)
_SUSPECT = re.compile("[\u00c2-\u00f4][^\x00-\x7f]")  # the first bytes of a letter in UTF-8, read as another encoding
_LATIN_1 = re.compile("[\0-\u00a0\u00a8\u00ab\u00b8\u00bb\u00c0-\u00ff]+|[\0-\u00ff]*[\u0080-\u009f][\0-\u00ff]*")
_C1 = re.compile("[\u0080-\u009f]")  # control characters: no text has them
_KANA = re.compile("[\u3041-\u30fe]")
_WORD = re.compile(r"[^\W\d_]+")
_HIGH = re.compile("[\u00a8\u00b8\u00c0-\u00ff]+")  # no language writes whole words in these letters alone
_LEAST_LETTERS = 4
_FEATURING = re.compile("feat|ft", re.IGNORECASE)  # in all that _FEATURED finds, and seven times as fast
_FEATURED = re.compile(
    rf"(?<=\S)(?<!\d)\s*[(\[（]?\s*\b(?:feat\b\.?|ft\b\.?|featuring\b)(?=[\s\w])(?:(?!\s[-–—]\s)[^()\[\]（）])*{_CLOSE}?",
    re.IGNORECASE,
)
_ENDING = re.compile(r"\s+[-–—|]\s+([^-–—|]*)$")
_OFFICIAL_ENDING = re.compile(
    r"(?<=\S)\s+official (?:(?:music|lyrics?|hd) )?(?:video|audio)(?: hd| hq| 4k)?$", re.IGNORECASE
)


def clean(metadata: Metadata) -> Metadata:
    """Every field cleaned; placeholders are not given."""
    return Metadata(*[clean_name(getattr(metadata, name)) for name in METADATA_FIELDS])


def clean_name(text: str | None) -> str | None:
    """One field; None if it is a placeholder or holds nothing."""
    if text is None:
        return None
    text = readable(text)
    if not text or _PLACEHOLDER.fullmatch(text):
        return None
    return _without_additions(text) or text


def readable(text: str) -> str:
    """`text` composed (NFC), without entities, zero-width characters and spaces to spare; wrong encodings repaired."""
    for _ in range(_MAX_REPAIRS):
        before = text
        text = _repaired(_ENTITY.sub(lambda found: html.unescape(found[0]), text))
        if text == before:
            break
    if not text.isascii():
        text = _legacy(text)
        text = unicodedata.normalize("NFC", _ZERO_WIDTH.sub("", text))
    return " ".join(text.split())


def _legacy(text: str) -> str:
    """Windows-1251 or Shift-JIS that was read as Latin-1, where that is certain; quotation marks of Windows-1252."""
    if not _LATIN_1.fullmatch(text):
        return text
    if _C1.search(text):
        with contextlib.suppress(UnicodeDecodeError):
            if _KANA.search(japanese := text.encode("latin-1").decode("cp932")):
                return japanese
        return _C1.sub(lambda found: found[0].encode("latin-1").decode("cp1252", "ignore"), text)
    words = _WORD.findall(text)
    russian = [word for word in words if _HIGH.fullmatch(word)]
    if len("".join(russian)) < _LEAST_LETTERS or any(not word.isascii() for word in words if word not in russian):
        return text
    return text.encode("latin-1").decode("cp1251", "replace")


def _repaired(text: str) -> str:
    """UTF-8 that was read as Windows-1252 or Latin-1, read as UTF-8; any other text as it is."""
    if not _SUSPECT.search(text):
        return text
    raw = bytearray()
    for letter in text:
        try:
            raw += letter.encode("cp1252")
        except UnicodeEncodeError:
            if ord(letter) > 0xFF:
                return text
            raw.append(ord(letter))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return text


def _without_additions(text: str) -> str:
    if _FEATURING.search(text):
        text = _FEATURED.sub("", text)
    text = _BRACKETS.sub(lambda found: "" if _is_added(found[1]) or _VIDEO_ID.fullmatch(found[1]) else found[0], text)
    ending = _ENDING.search(text)
    if ending and _is_added(ending[1]) and re.search(_REMASTERED, ending[1], re.IGNORECASE):
        text = text[: ending.start()]
    return _OFFICIAL_ENDING.sub("", text).strip()


def _is_added(text: str) -> bool:
    """Whether all the words are of those that catalogues and video sites add; years may stand among them."""
    words = [word for word in re.split(r"[\s,]+", text.strip()) if word]
    named = [word for word in words if not word.isdigit()]
    return bool(named) and all(_ADDED_WORDS.fullmatch(word) for word in named)
