"""Singing to train on: `lrid synthesize`.

espeak-ng speaks lines of the project's own words, WORLD lays the syllables on the notes of a random melody, a small
band plays along, and a room, a band limit and a level make a recording of it. Only the words depend on the language.
"""

from __future__ import annotations

from app.lab.training.synthesis.corpus import COLUMNS, MANIFEST, CorpusReport, synthesize_corpus
from app.lab.training.synthesis.errors import SynthesisError

__all__ = ["COLUMNS", "MANIFEST", "CorpusReport", "SynthesisError", "synthesize_corpus"]
