"""What the person who runs a training has to repair. These never reach an HTTP client."""

from __future__ import annotations


class TrainingError(Exception):
    """Says what was expected, what came (row or file), and what to do."""


class CorpusError(TrainingError):
    """A manifest, or a file it names, cannot be trained or evaluated on."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or of another kind of training."""
