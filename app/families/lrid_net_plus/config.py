"""The numbers of an LRID-Net that reads names closely, as they stand in its manifest.

Listening and identifying are those of `lrid_net`; x_lang is longer. It tells artist, album and title apart.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.families.contract import Strict
from app.families.lrid_net.config import NetworkManifest
from app.families.parts.ngrams.config import N_FIELDS, Script, default_scripts


class PlusReadConfig(Strict):
    """Metadata → x_lang.

    Of each field: the sum of the vectors of its n-grams, over the square root of their number; how well langdetect's
    profiles explain it; shares of its characters by script; and 1 if it is given. The profiles look at all fields
    together as well.
    """

    method: Literal["ngrams"] = "ngrams"
    max_characters: int = Field(200, gt=0)  # of a field; what follows is not read
    max_ngram: int = Field(5, ge=1, le=8)  # characters; shorter ones count too, words and pairs of words beside them
    buckets_log2: int = Field(16, ge=4, le=22)  # n-grams share 2 ** this vectors, by their hash
    embedding_size: int = Field(32, gt=0)
    languages: list[str] = Field(min_length=1)  # of langdetect's profiles, sorted
    smoothing: float = Field(5e-5, gt=0)  # added to each of their probabilities: langdetect's 0.5 / 10,000
    scripts: list[Script] = Field(default_factory=default_scripts, min_length=1)

    @property
    def n_buckets(self) -> int:
        return 1 << self.buckets_log2  # 65,536

    @property
    def n_counted(self) -> int:
        """Features that are not learnt: two views of the profiles on four texts, script shares and presence of three."""
        return 2 * (N_FIELDS + 1) * len(self.languages) + N_FIELDS * (len(self.scripts) + 1)

    @property
    def n_features(self) -> int:
        return N_FIELDS * self.embedding_size + self.n_counted


class LridNetPlusManifest(NetworkManifest):
    """`manifest.json` of the family `lrid_net_plus`."""

    read: PlusReadConfig

    @property
    def n_text_features(self) -> int:
        return self.read.n_features
