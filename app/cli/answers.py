"""Shows answers on a terminal, in a pipe and as JSON lines."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from app.catalogue.files import FileAnswer, printable
from app.families.tasks import headline_of

COLUMNS = ("file", "language", "probability", "next", "used", "error")
WIDTHS = {"language": 4, "probability": 4, "next": 8, "used": 10, "error": 20}  # on a terminal; the rest is the file's
HEADS = {"language": "lang", "probability": "p"}
LEAST_FILE_WIDTH = 16
GAP = "  "


class AnswerLines:
    """Prints one row per answer as it comes: columns on a terminal, tab-separated otherwise."""

    def __init__(self, top_k: int = 2) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._top_k = top_k
        self._columns = sys.stdout.isatty()
        self._widths = WIDTHS | {"next": max(8, 9 * (top_k - 1) - 1)}
        taken = sum(self._widths.values()) + len(GAP) * len(WIDTHS)
        self._widths["file"] = max(LEAST_FILE_WIDTH, self._console.width - taken)
        self._begun = False

    def show(self, found: FileAnswer) -> None:
        if not self._begun:
            self._begun = True
            self._row({name: HEADS.get(name, name) if self._columns else name for name in COLUMNS}, "bold")
        name = "(names)" if found.path is None else printable(Path(found.path.name) if self._columns else found.path)
        if found.answer is None:
            assert found.error is not None
            self._row({"file": name, "error": found.error.code}, "red")
            self._under(name, f"{found.error.detail.rstrip('.')}. {found.error.remedy}")
            return
        self._row({"file": name, **cells(found.answer, self._top_k)})
        for line in details(found.answer):
            self._under(name, line)

    def _row(self, row: dict[str, str], style: str = "") -> None:
        if not self._columns:
            print("\t".join(row.get(name, "") for name in COLUMNS), flush=True)
            return
        line = GAP.join(_fitted(row.get(name, ""), self._widths[name]) for name in COLUMNS)
        self._console.print(Text(line.rstrip(), style))

    def _under(self, name: str, line: str) -> None:
        """Prints what belongs to the row above; in a pipe on standard error, so that rows stay rows."""
        if self._columns:
            self._console.print(Text("    " + printable(line), "dim"), soft_wrap=False)
        else:
            print(f"{name}: {printable(line)}", file=sys.stderr)


def show_json(found: FileAnswer) -> None:
    """Prints one object a line: the body of the service, or the error, and the file."""
    body = found.answer or {}
    if found.error is not None:
        body = {"code": found.error.code, "detail": found.error.detail, "remedy": found.error.remedy}
    file = None if found.path is None else printable(found.path)
    print(json.dumps({"file": file, **body}, ensure_ascii=False), flush=True)


def cells(answer: dict[str, Any], top_k: int) -> dict[str, str]:
    """Returns a row by column. `next`: the leading languages (genres, tags) after the answer; with `und` from the first."""
    found = headline_of(answer)
    following = [entry for entry in found.ranked if entry["code"] != found.label][: max(1, top_k - 1)]
    used = [name for name, use in answer["modalities"].items() if use["used"]]
    return {
        "language": found.label,
        "probability": f"{found.probability:.2f}",
        "next": ", ".join(f"{entry['code']} {entry['probability']:.2f}" for entry in following),
        "used": "+".join(used),
        "error": ",".join(warning["code"] for warning in answer["modalities"]["audio"]["warnings"]),
    }


def details(answer: dict[str, Any]) -> Iterator[str]:
    """Yields a line of the tags that apply, one for each window of a timeline, and one for what each modality says alone."""
    if "tags" in answer:
        applying = [f"{tag['name']} {tag['probability']:.2f}" for tag in answer["tags"] if tag["applies"]]
        yield f"tags that apply: {', '.join(applying) or 'none'}"
    for moment in answer["timeline"] or ():
        start, found = moment["start_seconds"], headline_of(moment)
        yield f"{_clock(start)}-{_clock(start + moment['seconds'])}  {found.label} {found.probability:.2f}"
    for name, ranked in (answer["explanation"] or {}).items():
        said = ", ".join(f"{entry['code']} {entry['probability']:.2f}" for entry in ranked[:3]) if ranked else "not used"
        yield f"{name.removesuffix('_only')} alone: {said}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _fitted(text: str, width: int) -> str:
    """Fills exactly `width` cells; what does not fit loses its middle."""
    if cell_len(text) > width:
        tail = set_cell_size(text[::-1], width // 2)[::-1]
        text = set_cell_size(text, width - 1 - width // 2) + "…" + tail
    return set_cell_size(text, width)
