"""log.csv, curves.png and config.json of a training."""

from __future__ import annotations

import csv
import importlib.util
import time
from contextlib import suppress

from app.lab.training.config import TrainConfig
from app.lab.training.validate import Report

CASES = ("both", "audio_only", "text_only")
COLUMNS = ["epoch", "minutes", "learning_rate", "train_loss", "valid_loss"] + [
    f"valid_{what}_{case}" for case in CASES for what in ("loss", "accuracy")
]


class Journal:
    """One line an epoch."""

    def __init__(self, config: TrainConfig, from_epoch: int = 0) -> None:
        """Begins anew, or keeps the lines of the epochs before `from_epoch`; writes config.json. Raises OSError."""
        self._path = config.output / "log.csv"
        self._picture = config.output / "curves.png"
        config.output.mkdir(parents=True, exist_ok=True)
        (config.output / "config.json").write_text(config.as_json(), encoding="utf-8")
        kept = [row for row in self._rows() if int(row["epoch"]) < from_epoch] if from_epoch else []
        part = self._path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(kept)
        part.replace(self._path)
        self._began = time.monotonic() - 60 * (float(kept[-1]["minutes"]) if kept else 0.0)

    def _rows(self) -> list[dict[str, str]]:
        """Whole lines; the last may have been cut off."""
        if not self._path.is_file():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and row["valid_loss"]]

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
        """Losses and accuracies over the epochs, as far as they go; nothing without matplotlib or with a full disk."""
        rows = self._rows()
        if not rows or importlib.util.find_spec("matplotlib") is None:
            return
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
        for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
            names = (["train_loss"] if what == "loss" else []) + [f"valid_{what}_{case}" for case in CASES]
            for name in names:
                points = [(int(row["epoch"]), float(row[name])) for row in rows if row[name]]
                if points:
                    axis.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker=".")
            axis.set_xlabel("epoch")
            axis.set_ylabel("nats" if what == "loss" else "accuracy")
            axis.grid(alpha=0.3)
            axis.legend(frameon=False)
        with suppress(OSError):
            figure.savefig(self._picture, dpi=120)
        pyplot.close(figure)
