"""What the owner of a corpus has to repair. Never reaches an HTTP client."""

from __future__ import annotations


class CorpusError(Exception):
    """A manifest, or a file it names, cannot be used. Says what was expected, what came (row or file), and what to do."""
