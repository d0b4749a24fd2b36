"""What was measured, as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtest.compare.contenders import OURS, EngineName
from loadtest.compare.measure import Load, median

BARS: dict[EngineName, float | None] = {"stock": 2.3, "ours": 1.10, "ours+decoding": None}  # times the best rival's peak


@dataclass(slots=True)
class Score:
    """All rounds of one contender."""

    name: str
    rival: str
    engine: EngineName
    version: str = ""
    failure: str = ""  # why there are no figures
    example: dict[str, float] = field(default_factory=dict)  # its answer to one clip: all serve the same network
    peaks_per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # for one clip, at the peak
    loads: dict[str, list[Load]] = field(default_factory=dict)  # by share of this service's peak

    @property
    def peak(self) -> float:
        return median(self.peaks_per_second)


@dataclass(frozen=True, slots=True)
class Comparison:
    machine: dict[str, Any]
    trunk_per_second: list[float]  # windows a second of the bare trunk, once a round
    scores: list[Score]

    @property
    def ours(self) -> Score:
        return next(score for score in self.scores if score.name == OURS)

    def ratio(self, engine: EngineName) -> tuple[float, str]:
        """This service's peak over the best rival's with that engine, and its name; nan if there is none."""
        rivals = [s for s in self.scores if s.name != OURS and s.engine == engine and s.peak > 0]
        if not rivals or not self.ours.peak > 0:
            return math.nan, ""
        best = max(rivals, key=lambda score: score.peak)
        return self.ours.peak / best.peak, best.name


def table(result: Comparison) -> str:
    """Markdown."""
    shares = list(dict.fromkeys(share for score in result.scores for share in score.loads))
    head = ["server", "peak /s", "CPU ms each"]
    for share in shares:
        head += [f"{share} x: good /s", "p50 ms", "p95 ms", "p99 ms", "refused", "failed"]
    lines = [_row(head), _row(["---"] * len(head))]
    for score in result.scores:
        name = f"{score.name} ({score.version})" if score.version else score.name
        if score.failure:
            lines.append(_row([name, f"none: {score.failure}", *[""] * (len(head) - 2)]))
            continue
        cells = [name, f"{score.peak:.2f}", _whole(median(score.cpu_ms))]
        for share in shares:
            cells += _load_cells(score.loads.get(share, []))
        lines.append(_row(cells))
    return "\n".join([*lines, "", *_verdicts(result)])


def _load_cells(loads: list[Load]) -> list[str]:
    """Medians over the rounds."""
    if not loads:
        return [""] * 6
    names = ("p50_ms", "p95_ms", "p99_ms", "refused", "failed")
    goodput = median([load.goodput_per_second for load in loads])
    return [f"{goodput:.2f}", *(_whole(median([getattr(load, name) for load in loads])) for name in names)]


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _verdicts(result: Comparison) -> list[str]:
    lines = []
    for engine, bar in BARS.items():
        ratio, name = result.ratio(engine)
        if not math.isnan(ratio):
            asked = "nothing asked" if bar is None else f"asked: {bar:g} x"
            lines.append(f"- {ratio:.2f} x the best with the {engine} engine, which is {name} ({asked})")
    if result.trunk_per_second:
        trunk = median(result.trunk_per_second)
        lines.append(f"- {result.ours.peak / trunk:.0%} of the bare trunk's {trunk:.2f} windows/s (asked: 90 %)")
    over = [load for share, loads in result.ours.loads.items() if float(share) > 1 for load in loads]
    if over:
        share = median([load.goodput_per_second for load in over]) / result.ours.peak
        refusals = median([load.refused_p99_ms for load in over])
        lines.append(f"- beyond capacity: {share:.0%} of the peak (asked: 95 %)")
        lines.append(f"- refusals p99 {_whole(refusals)} ms (asked: 20)")
    answers = [score.example for score in result.scores if score.example]
    if len(answers) > 1:
        spread = max(max(a[code] for a in answers) - min(a[code] for a in answers) for code in answers[0])
        lines.append(f"- largest difference of a probability between any two of them, on one clip: {spread:.4f}")
    machine = ", ".join(f"{key} {value}" for key, value in result.machine.items())
    return [*lines, f"- {machine}"]


def save_json(result: Comparison, path: Path) -> None:
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")


def draw(result: Comparison, path: Path) -> None:
    """Peaks as bars, and where loads were offered p99 at each. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    scores = [score for score in result.scores if score.peak > 0]
    shares = list(dict.fromkeys(share for score in scores for share in score.loads))
    size, n_panels = (13 if shares else 8, 0.45 * len(scores) + 1.6), 2 if shares else 1
    figure, panels = plt.subplots(1, n_panels, figsize=size, sharey=True, squeeze=False)
    _draw_peaks(panels[0, 0], result, scores)
    if shares:
        _draw_delays(panels[0, 1], scores, shares)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_peaks(panel: Any, result: Comparison, scores: Sequence[Score]) -> None:
    places = range(len(scores))
    colours = ["tab:red" if s.name == OURS else "tab:gray" if s.engine == "stock" else "tab:blue" for s in scores]
    panel.barh(places, [score.peak for score in scores], color=colours)
    for place, score in zip(places, scores, strict=True):
        panel.text(score.peak, place, f" {score.peak:.2f}", va="center")
    panel.set_yticks(list(places), [score.name for score in scores])
    panel.invert_yaxis()
    panel.set_xlabel("clips a second, closed loop")
    if result.trunk_per_second:
        panel.axvline(median(result.trunk_per_second), color="black", linestyle=":", label="bare trunk")
        panel.legend(loc="lower right")


def _draw_delays(panel: Any, scores: Sequence[Score], shares: Sequence[str]) -> None:
    for share, marker in zip(shares, "osv^Dx", strict=False):
        values = [median([load.p99_ms for load in score.loads.get(share, [])]) for score in scores]
        panel.plot(values, range(len(scores)), marker, label=f"{share} x this service's peak")
    panel.set_xlabel("p99 of what was answered, ms, open loop")
    panel.set_xscale("log")
    panel.legend()
