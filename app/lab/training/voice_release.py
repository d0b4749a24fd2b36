"""Makes a draft of an `lrid_voice` release from ears, a reader and a fitted head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import torch
from torch import Tensor

from app.families.contract import Label
from app.families.lrid_voice.manifest import VoiceManifest, WindowPlan
from app.families.lrid_voice.model import READER
from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.whisper import Ears
from app.families.parts.whisper_weights import stored_ears
from app.lab.training.recipe import Draft
from app.lab.training.voice_head.fit import FittedHead
from app.lab.training.voice_lyrics import lyrics_config, with_lyrics

UNNAMED = "0" * 64  # the hash of weights that are not written yet


@dataclass(frozen=True, slots=True)
class NamesReader:
    """Holds a trained reader, as a release stores it."""

    config: NgramConfig
    tensors: Mapping[str, Tensor]


def draft_voice(
    labels: Sequence[Label], ears: Ears, reader: NamesReader, head: FittedHead, facts: Mapping[str, Any], plan: WindowPlan
) -> Draft:
    """Joins the parts. `facts`: what the manifest says of the training, `class_prior` among them."""
    tensors = stored_ears(ears)
    tensors |= {READER + name: tensor for name, tensor in reader.tensors.items()}
    tensors |= {name: torch.from_numpy(tensor).half() for name, tensor in head.tensors.items()}
    manifest = VoiceManifest(
        family="lrid_voice",
        release="draft",
        created=date.today(),
        labels=list(labels),
        sha256=UNNAMED,
        training=dict(facts),
        metrics={},
        listen=ears.config,
        windows=plan,
        read=reader.config,
        lyrics=lyrics_config(reader.config),
        identify=with_lyrics(head.config, [label.code for label in labels]),
    )
    about = "Whisper's ears, readers of names and lyrics, and a head that joins them as a product of experts"
    return Draft(manifest, tensors, about, calibrated=True)
