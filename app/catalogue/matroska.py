"""The language of the first audio track of Matroska and WebM files, by MKVToolNix, which edits headers in place."""

import json
import subprocess
from pathlib import Path

from app.catalogue.errors import TagRefused

SUFFIXES = frozenset({".mka", ".mkv", ".webm"})
PATIENCE_SECONDS = 60.0
# Matroska has codes of ISO 639-2 for bibliographies beside BCP 47; where they differ from those of ISO 639-3:
_BIBLIOGRAPHIC = (
    "alb:sqi arm:hye baq:eus bur:mya chi:zho cze:ces dut:nld fre:fra geo:kat ger:deu gre:ell ice:isl mac:mkd mao:mri "
    "may:msa per:fas rum:ron slo:slk tib:bod wel:cym"
)
_ONLY_BCP47 = {"sh": "hbs"}


class MatroskaTag:
    """Implements `tags.LanguageTag`. A file that names none is English, as the standard says, unless it says `und`."""

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
        """Into a copy of the file. Raises TagRefused."""
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
