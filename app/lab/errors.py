"""What the person who trains or evaluates has to repair. These never reach an HTTP client."""


class LabError(Exception):
    """Says what was expected, what came, and what to do."""

    code = "lab_error"


class CorpusError(LabError):
    """A catalogue, or a file it names, cannot be used."""

    code = "corpus_error"


class TrainingError(LabError):
    """A training cannot begin, go on, or be written."""

    code = "training_error"


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or of another kind of training."""
