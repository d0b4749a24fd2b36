"""log.csv, curves.png and config.json of a training."""

from __future__ import annotations

import csv
import importlib.util
import time
from contextlib import suppress
from pathlib import Path

from app.lab.errors import TrainingError
from app.lab.training.config import TrainConfig


class Journal:
    """One line of log.csv per epoch; the columns are those of the first line."""

    def __init__(self, config: TrainConfig, from_epoch: int = 0) -> None:
        """Begins anew, or keeps the lines of the epochs before `from_epoch`; writes config.json. Raises TrainingError."""
        self._path = config.output / "log.csv"
        try:
            config.output.mkdir(parents=True, exist_ok=True)
            (config.output / "config.json").write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
            kept = [row for row in read_log(self._path) if int(row["epoch"]) < from_epoch]
            self._write(kept)
        except OSError as error:
            raise TrainingError(f"{config.output} cannot be written ({error}); free some disk or choose another") from error
        self._began = time.monotonic() - 60 * (float(kept[-1]["minutes"]) if kept else 0.0)

    def _write(self, rows: list[dict[str, str]]) -> None:
        part = self._path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            if rows:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        part.replace(self._path)

    def add(self, epoch: int, learning_rate: float, train_loss: float, scores: dict[str, float]) -> str:
        """Appends an epoch and returns it as a line to print. Raises TrainingError."""
        minutes = (time.monotonic() - self._began) / 60
        values = {"epoch": str(epoch), "minutes": f"{minutes:.2f}", "learning_rate": f"{learning_rate:.3g}"}
        values |= {"train_loss": f"{train_loss:.4f}"} | {f"valid_{name}": f"{value:.4f}" for name, value in scores.items()}
        try:
            self._write([*read_log(self._path), values])
        except OSError as error:
            raise TrainingError(f"{self._path} cannot be written ({error}); free some disk, go on with --resume") from error
        return "  ".join(f"{name} {value}" for name, value in values.items())

    def plot(self) -> None:
        """Losses and accuracies over the epochs; nothing without matplotlib or with a full disk."""
        rows = read_log(self._path)
        if not rows or importlib.util.find_spec("matplotlib") is None:
            return
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
        for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
            for name in (name for name in rows[0] if what in name):
                axis.plot([int(row["epoch"]) for row in rows], [float(row[name]) for row in rows], ".-", label=name)
            axis.set_xlabel("epoch")
            axis.set_ylabel("nats" if what == "loss" else "accuracy")
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend(frameon=False)
        with suppress(OSError):
            figure.savefig(self._path.with_name("curves.png"), dpi=120)
        pyplot.close(figure)


def read_log(path: Path) -> list[dict[str, str]]:
    """Whole lines of a log; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]
