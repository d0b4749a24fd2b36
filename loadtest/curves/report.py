"""The curves as tables and as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.curves.measure import AtOnce, Length, Memory


@dataclass
class Curves:
    lengths: list[Length] = field(default_factory=list)
    clients: list[AtOnce] = field(default_factory=list)
    memory: Memory | None = None


def table(curves: Curves) -> str:
    """Markdown."""
    lines = ["| song | MB | windows | answer, ms | CPU, ms |", "|---|---|---|---|---|"]
    lines += [
        f"| {p.seconds:g} s | {p.megabytes:.1f} | {p.windows} | {p.answer_ms:,.0f} | {p.cpu_ms:,.0f} |"
        for p in curves.lengths
    ]
    lines += ["", "| clients | clips/s | p50, ms | p99, ms | CPU ms a clip | refused | their p99, ms | failed |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {p.clients} | {p.answered_per_second:.2f} | {_whole(p.p50_ms)} | {_whole(p.p99_ms)} | {p.cpu_ms:,.0f} "
        f"| {p.refused} | {_whole(p.refused_p99_ms)} | {p.failed} |"
        for p in curves.clients
    ]
    if memory := curves.memory:
        lines += [
            "",
            f"Memory over {memory.requests[-1]:,} mixed requests: {memory.pss_mb[0]:,.0f} MB before, "
            f"{memory.pss_mb[-1]:,.0f} MB after, slope {memory.slope_kb_per_1000_requests:+,.0f} kB for 1,000 requests; "
            f"{memory.wrong} wrong answers",
        ]
    return "\n".join(lines)


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}"


def draw(curves: Curves, path: Path) -> None:
    """Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2))
    clients = [point.clients for point in curves.clients]
    axes[0].plot(clients, [point.answered_per_second for point in curves.clients], "o-", color="tab:blue")
    axes[0].set(xscale="log", xlabel="clients at once", ylabel="30 s clips answered a second", ylim=(0, None))
    delays = axes[0].twinx()
    delays.plot(clients, [point.p99_ms for point in curves.clients], "s--", color="tab:red")
    delays.set(yscale="log", ylabel="p99, ms (dashed)")
    lengths = [point.seconds for point in curves.lengths]
    axes[1].plot(lengths, [point.answer_ms for point in curves.lengths], "o-", label="until the answer")
    axes[1].plot(lengths, [point.cpu_ms for point in curves.lengths], "s--", label="CPU of all processes")
    axes[1].set(xscale="log", xlabel="length of the song, s", ylabel="ms", ylim=(0, None))
    axes[1].legend()
    if memory := curves.memory:
        axes[2].plot(memory.requests, memory.pss_mb, "o-")
        axes[2].set(xlabel="mixed requests", ylabel="memory of the process tree, MB", ylim=(0, None))
        axes[2].locator_params(axis="x", nbins=5)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
