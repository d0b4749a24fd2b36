"""Small synthetic catalogues, to try a system where there is no data. Figures on them say nothing about music."""

from collections.abc import Callable
from pathlib import Path

Maker = Callable[[Path, int], Path]  # folder, seed → the catalogue


def makers() -> dict[str, Maker]:
    """By the system that they are for."""
    from app.lab.corpus.made import genre, multimodal, multitask, tagging

    return {"genre": genre.make, "multimodal": multimodal.make, "multitask": multitask.make, "tagging": tagging.make}
