"""Writes log.csv and config.json of a training."""

import csv
import time
from pathlib import Path

from app.lab.errors import TrainingError
from app.lab.training.config import TrainConfig


class Journal:
    """Writes a line of log.csv per epoch; the columns are those of the first line."""

    def __init__(self, config: TrainConfig, from_epoch: int = 0) -> None:
        """Begins anew, or keeps the lines of the epochs before `from_epoch`; writes config.json. Raises TrainingError."""
        self._path = config.output / "log.csv"
        try:
            config.output.mkdir(parents=True, exist_ok=True)
            (config.output / "config.json").write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
            self._rows = [row for row in read_log(self._path) if int(row["epoch"]) < from_epoch]
            self._write()
        except OSError as error:
            raise TrainingError(f"{config.output} cannot be written ({error}); free some disk or choose another") from error
        self._began = time.monotonic() - 60 * (float(self._rows[-1]["minutes"]) if self._rows else 0.0)

    def _write(self) -> None:
        part = self._path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            if self._rows:
                writer = csv.DictWriter(file, list(self._rows[0]))
                writer.writeheader()
                writer.writerows(self._rows)
        part.replace(self._path)

    def add(self, epoch: int, learning_rate: float, train_loss: float, scores: dict[str, float]) -> str:
        """Appends an epoch and returns it as a line to print. Raises TrainingError."""
        minutes = (time.monotonic() - self._began) / 60
        values = {"epoch": str(epoch), "minutes": f"{minutes:.2f}", "learning_rate": f"{learning_rate:.3g}"}
        values |= {"train_loss": f"{train_loss:.4f}"} | {f"valid_{name}": f"{value:.4f}" for name, value in scores.items()}
        self._rows.append(values)
        try:
            self._write()
        except OSError as error:
            raise TrainingError(f"{self._path} cannot be written ({error}); free some disk, go on with --resume") from error
        return "  ".join(f"{name} {value}" for name, value in values.items())


def read_log(path: Path) -> list[dict[str, str]]:
    """Reads the whole lines of a log; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]
