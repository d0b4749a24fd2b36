"""log.csv and curves.png of a training."""

from __future__ import annotations

import csv
import time
from pathlib import Path

from app.training.validate import Report

CASES = ("both", "audio_only", "text_only")
COLUMNS = ["epoch", "minutes", "learning_rate", "train_loss", "valid_loss"] + [
    f"valid_{what}_{case}" for case in CASES for what in ("loss", "accuracy")
]


class Journal:
    """One line an epoch."""

    def __init__(self, folder: Path, *, keep: bool) -> None:
        self._path = folder / "log.csv"
        self._picture = folder / "curves.png"
        self._began = time.monotonic()
        if not (keep and self._path.is_file()):
            with self._path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(COLUMNS)

    def add(self, epoch: int, learning_rate: float, train_loss: float, report: Report) -> str:
        """Appends an epoch and returns it as a line to print."""
        minutes = (time.monotonic() - self._began) / 60
        values: dict[str, object] = {
            "epoch": epoch,
            "minutes": f"{minutes:.2f}",
            "learning_rate": f"{learning_rate:.3g}",
            "train_loss": f"{train_loss:.4f}",
            "valid_loss": f"{report.loss:.4f}",
        }
        for name, case in report.cases.items():
            values[f"valid_loss_{name}"] = f"{case.loss:.4f}"
            values[f"valid_accuracy_{name}"] = f"{case.accuracy:.4f}"
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(values)
        return "  ".join(f"{name} {value}" for name, value in values.items())

    def plot(self) -> None:
        """Losses and accuracies over the epochs; needs matplotlib (extra `train`)."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        with self._path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
        for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
            names = (["train_loss"] if what == "loss" else []) + [f"valid_{what}_{case}" for case in CASES]
            for name in names:
                points = [(int(row["epoch"]), float(row[name])) for row in rows if row[name]]
                if points:
                    axis.plot(*zip(*points, strict=True), label=name.replace("_", " "))
            axis.set_xlabel("epoch")
            axis.set_ylabel("nats" if what == "loss" else "accuracy")
            axis.legend()
        figure.savefig(self._picture, dpi=120)
        pyplot.close(figure)
