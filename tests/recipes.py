"""What tests of recipes share: a few examples learnt by heart, and the release of a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.lab.training.loop import Recipe
from app.lab.training.recipes import draft_of
from app.lab.training.release import ReleaseConfig, make_release


def by_heart(recipe: Recipe[Any], examples: np.ndarray, steps: int) -> tuple[float, float]:
    """The loss before the first and the last of so many steps on the same few examples."""
    torch.manual_seed(0)
    network, rng, losses = recipe.build().train(), np.random.default_rng(0), []
    optimiser = recipe.optimiser(network)
    for _ in range(steps):
        loss = recipe.loss(network, examples, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def publish(best: Path, store: Path, release: str = "1", **config: Any) -> Path:
    """The folder of a release of a checkpoint."""
    draft, settings = draft_of(best)
    words = {"data": "Made songs.", "limits": "Music.", "calibration": None, "settings": settings}
    return make_release(draft, ReleaseConfig(store=store, release=release, **words | config))
