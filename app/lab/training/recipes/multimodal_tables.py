"""Makes the paper's tables on any catalogue: features alone and together (1), and replicas for missing consumption (2)."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from app.families.multimodal.network import MultimodalNetwork
from app.lab import markdown as md
from app.lab.evaluation.acceptance import MEASURES, Acceptance, acceptance, acceptance_table, means
from app.lab.progress import Progress
from app.lab.training.recipes.multimodal import MultimodalRecipe
from app.lab.training.recipes.multimodal_data import NO_CONSUMPTION, WHOLE, MultimodalConfig

SINGLE: Mapping[str, Sequence[str]] = {
    "Timbral": ["timbral"],
    "Vocals": ["vocals"],
    "Consumption": ["consumption"],
    "Audio": ["vocals", "timbral"],
    "Multimodal": ["vocals", "timbral", "consumption"],
}
REPLICAS = ("Z", "Z+G", "A", "A+G")
Measured = dict[str, Acceptance]  # by the column of a table
Trained = tuple[MultimodalRecipe, MultimodalNetwork, npt.NDArray[np.float64]]  # with the best weights, and thresholds


def run_tables(config: MultimodalConfig, seeds: Sequence[int], progress: Progress) -> str:
    """Trains nine networks for each seed on features that are computed once; writes tables.md, and returns it."""
    first = MultimodalRecipe(config)
    first.prepare(progress)
    split = "test" if (first.songs.splits == "test").any() else "valid"
    found = _mean([_one_seed(first, split, seed, progress) for seed in seeds])
    codes, n = first.config.codes, int((first.songs.splits == split).sum())
    second = {name: one for name, one in found.items() if name == "Audio" or name not in SINGLE}
    rows = [(code, *(one["mAP"][i] for one in second.values())) for i, code in enumerate(codes)]
    rows.append(("mean", *(means(one, codes)["mAP"] for one in second.values())))
    page = (
        f"Split {split} of {first.config.catalogue.name}, {n} songs; seeds {', '.join(map(str, seeds))}.\n\n"
        f"Table 1\n\n{acceptance_table({name: one for name, one in found.items() if name in SINGLE}, codes)}\n"
        f"Table 2: mAP without consumption data\n\n{md.table(['language', *second], rows)}\n"
    )
    (first.config.output / "tables.md").write_text(page, encoding="utf-8")
    return page


def _one_seed(first: MultimodalRecipe, split: str, seed: int, progress: Progress) -> Measured:
    """Trains the networks of a seed; returns the columns of both tables, of which *Audio* is in either."""
    has = {name for name, size in first.sizes.items() if size}
    columns = {name: [one for one in inputs if one in has] for name, inputs in SINGLE.items()}
    networks = {name: _trained(first, seed, own, "none", progress) for name, own in columns.items() if own}
    found = {name: _measured(own, split) for name, own in networks.items()}
    found |= {f"baseline {kind}": _measured(networks["Multimodal"], split, missing=kind) for kind in "ZA"}
    for kind in REPLICAS:
        own = _trained(first, seed, columns["Multimodal"], kind, progress)
        found[kind] = _measured(own, split, missing=kind[0])
    return found


def _trained(first: MultimodalRecipe, seed: int, inputs: Sequence[str], replica: str, progress: Progress) -> Trained:
    """Trains a variant, or goes on with it."""
    name = f"{'+'.join(inputs)}-{replica}-seed-{seed}"
    recipe = first.variant(name, inputs=inputs, replica=replica, seed=seed, audio_replica=False)
    recipe.songs, recipe.timbral = first.songs, first.timbral
    progress.say(name)
    network, stored = recipe.trained(progress)
    assert isinstance(network, MultimodalNetwork)
    return recipe, network, np.array(next(iter(stored["facts"]["thresholds"].values())))


def _measured(own: Trained, split: str, missing: str = "") -> Acceptance:
    """Measures a split's songs; `missing` puts zeros (Z) or the average (A) in place of their consumption data."""
    recipe, network, thresholds = own
    if missing:
        network.missing.copy_(torch.from_numpy(recipe.missing_of(missing)))
    labels, probabilities = recipe.answers(network, split, NO_CONSUMPTION if missing else WHOLE)
    return acceptance(labels, probabilities, thresholds)


def _mean(found: Sequence[Measured]) -> Measured:
    """Averages over the seeds."""
    return {name: {kind: np.mean([one[name][kind] for one in found], axis=0) for kind in MEASURES} for name in found[0]}
