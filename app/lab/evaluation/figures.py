"""Draws an evaluation as PNGs. Needs matplotlib (extra `train`)."""

import importlib.util
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from app.lab.evaluation.calibrate import LEAST_ANSWERED, WANTED_PRECISION
from app.lab.evaluation.report import Measured, title

GREY = "0.6"
SIGNS_PER_INCH = 17  # of the small print


def draw(measured: Measured, folder: Path) -> None:
    """Writes reliability, coverage and one confusion per case; none where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.style.context("seaborn-v0_8-whitegrid"):
        figures = {"reliability": _reliability(pyplot, measured), "coverage": _coverage(pyplot, measured)}
        figures |= {f"confusion_{mode}": _confusion(pyplot, measured, mode) for mode in measured.cases}
        for name, figure in figures.items():
            source = fill(f"{measured.release} on {measured.data}", round(SIGNS_PER_INCH * figure.get_figwidth()))
            figure.text(0.005, -0.01, source, fontsize=7, color=GREY, va="top")
            figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight", pad_inches=0.15)
            pyplot.close(figure)


def _confusion(pyplot: Any, measured: Measured, mode: str) -> Any:
    """Draws counts as log10(x + 1), the most frequent class first (the paper's figures 2 and 5)."""
    case = measured.cases[mode]
    codes = sorted(measured.codes, key=lambda code: -case.support.get(code, 0))
    order = [measured.codes.index(code) for code in codes]
    counts = np.array(case.confusion)[np.ix_(order, order)]
    shown = np.log10(counts + 1)
    size = max(6.2, 0.3 * len(codes))  # inches
    figure, axis = pyplot.subplots(figsize=(1.0 + size, size), layout="constrained")
    image = axis.imshow(shown, cmap="GnBu", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            light = shown[row, column] > 0.6 * shown.max()
            axis.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color="white" if light else "black")
    for along in (axis.xaxis, axis.yaxis):
        along.set_ticks(range(len(codes)), codes)
    axis.set(xlabel="predicted", ylabel="true", title=f"Confusion, {title(mode)}: rows of each true class")
    axis.grid(visible=False)
    figure.colorbar(image, ax=axis, shrink=0.8, label="log₁₀(rows + 1)")
    return figure


def _reliability(pyplot: Any, measured: Measured) -> Any:
    """Draws accuracy against confidence, and how many rows have it."""
    n = len(measured.cases)
    figure, axes = pyplot.subplots(
        2, n, figsize=(3.9 * n, 4.6), squeeze=False, sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    for i, ((above, below), (mode, case)) in enumerate(zip(axes.T, measured.cases.items(), strict=True)):
        confidence, accuracy, rows = (np.array([b[k] for b in case.reliability]) for k in ("confidence", "accuracy", "rows"))
        colour = f"C{i}"
        above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        above.vlines(confidence, confidence, accuracy, color=colour, alpha=0.35, linewidth=2)
        above.plot(confidence, accuracy, color=colour, marker="o", markersize=4.5, linewidth=1.6)
        above.set(title=f"{title(mode)}: ECE {case.ece:.3f}", ylim=(0, 1))
        below.bar(confidence, rows / rows.sum(), 0.05, color=colour)
        below.set(xlim=(0, 1.02), xlabel="confidence")
    axes[0, 0].set_ylabel("share that is right")
    axes[1, 0].set_ylabel("share of rows")
    return figure


def _coverage(pyplot: Any, measured: Measured) -> Any:
    """Draws coverage against precision: a curve per case, a dot where the release's own decisions stand."""
    figure, axis = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    for i, (mode, case) in enumerate(measured.cases.items()):
        points = [p for p in case.curve if p["coverage"] * case.rows >= LEAST_ANSWERED] or case.curve[-1:]
        coverage, precision = [p["coverage"] for p in points], [p["precision"] for p in points]
        axis.plot(coverage, precision, color=f"C{i}", linewidth=1.8, label=title(mode))
        if case.coverage:
            axis.plot(case.coverage, case.answered_precision, "o", color=f"C{i}", markersize=8, markeredgecolor="white")
    axis.axhline(WANTED_PRECISION, color=GREY, linewidth=1, linestyle="--")
    axis.text(1.0, WANTED_PRECISION + 0.01, "95 % wanted", ha="right", fontsize=8.5, color=GREY)
    axis.set(xlabel="coverage: share of tracks answered, the rest is und", ylabel="precision of the answers")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.04), title="Coverage against precision; dots: the release's decisions")
    axis.legend(loc="lower left")
    return figure
