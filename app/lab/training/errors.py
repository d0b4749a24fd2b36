"""What the person who runs a training has to repair. These never reach an HTTP client."""

from __future__ import annotations

from app.lab.corpus.errors import CorpusError

__all__ = ["CheckpointError", "CorpusError", "TrainingError"]


class TrainingError(Exception):
    """Says what was expected, what came, and what to do."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or of another kind of training."""
