"""The paper's experiments (§5): all six variants on one corpus, each in the three cases, with a table of what came out.

Resumable: a variant that has its scores.json is not trained again, one that was stopped goes on from its checkpoint.
Scores that other settings or rows gave are refused: a table must not mix them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean

import torch
from rich.console import Console
from rich.progress import Progress

from app.families.lrid_net.config import ModeName as Mode
from app.lab.evaluation import metrics
from app.lab.training.config import TrainConfig, VariantName
from app.lab.training.data import prepare
from app.lab.training.errors import TrainingError
from app.lab.training.state import MAY_CHANGE, changed_settings
from app.lab.training.train import build, pick_device, read_checkpoint, train
from app.lab.training.validate import Ear, answers

CASES: dict[Mode, str] = {"both": "1: both", "text_only": "2: audio missing", "audio_only": "3: text missing"}
NAMES: dict[VariantName, str] = {
    "main": "Main", "adr": "ADr-Main", "tdr": "TDr-Main", "atdr": "ATDr-Main", "to": "TO", "ao": "AO",
}  # fmt: skip
PAPER_F1: dict[VariantName, tuple[float, float]] = {  # macro, weighted, with what the variant takes (figure 3)
    "main": (0.504, 0.911), "to": (0.422, 0.900), "ao": (0.275, 0.857),
}  # fmt: skip

SCORES_MAY_DIFFER = MAY_CHANGE - {"init_from", "patience_epochs"}  # these two decide what a finished training gave


@dataclass(frozen=True, slots=True)
class Result:
    """One training, measured on the validation rows."""

    variant: VariantName
    seed: int
    rows: int
    macro_f1: dict[Mode, float]  # by case
    weighted_f1: dict[Mode, float]


def run_variants(config: TrainConfig, seeds: Sequence[int], console: Console) -> list[Result]:
    """Trains what has no scores yet, under `config.output`. Raises TrainingError and its kinds.

    Scores of other settings or rows are refused before anything is trained.
    """
    told = [
        replace(
            config,
            variant=variant,
            seed=seed,
            output=config.output / f"{variant}-{seed}",
            cache=config.cache or config.output / "cache",
        )
        for seed in seeds
        for variant in NAMES
    ]
    rows = rows_hash(config)
    found = {one.output: scores_of(one, rows) for one in told}
    results = []
    for one in told:
        result = found[one.output]
        if result is None:
            console.print(f"{NAMES[one.variant]}, seed {one.seed}", highlight=False)
            train(replace(one, resume=(one.output / "last.pt").is_file()))
            result = score(one)
            text = json.dumps(asdict(result) | {"rows_hash": rows})
            (one.output / "scores.json").write_text(text, encoding="utf-8")
        results.append(result)
    text = table(results, config)
    (config.output / "variants.md").write_text(text, encoding="utf-8")
    (config.output / "variants.json").write_text(json.dumps([asdict(r) for r in results], indent=2), encoding="utf-8")
    return results


def rows_hash(config: TrainConfig) -> str:
    """Of the manifests as they are. Raises TrainingError if they cannot be read."""
    try:
        parts = [path.read_bytes() for path in (config.manifest, config.text_manifest) if path is not None]
    except OSError as error:
        raise TrainingError(f"the manifest cannot be read ({error}); check its path") from error
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def scores_of(config: TrainConfig, rows: str) -> Result | None:
    """What stands in scores.json; None without one. Raises TrainingError if other settings or rows gave it."""
    path = config.output / "scores.json"
    if not path.is_file():
        return None
    remedy = f"give the same, or another --output; or delete {config.output} to train it anew"
    settings = (config.output / "config.json").read_text(encoding="utf-8")
    for name, theirs, ours in changed_settings(settings, config, SCORES_MAY_DIFFER):
        raise TrainingError(f"{path} is of a training with {name} = {theirs}, not {ours}; {remedy}")
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored.pop("rows_hash", rows) != rows:
        raise TrainingError(f"{path}: the manifest has changed since; {remedy}")
    return Result(**stored)


def score(config: TrainConfig) -> Result:
    """The best checkpoint of a training in all three cases, on all validation rows."""
    whole = replace(config, validate_items=0, freeze_listener=False)
    network = build(whole).to(pick_device(whole))
    network.load_state_dict(read_checkpoint(config.output / "best.pt", whole, same_variant=True)["network"])
    with Progress(disable=True) as progress:
        data = prepare(whole, progress)
    found = answers(whole, data, network.eval(), Ear(whole, data, network, pick_device(whole)))
    macro, weighted, rows = {}, {}, 0
    for mode, (logits, truth) in found.items():
        if not len(truth):
            continue
        matrix = metrics.confusion(truth.cpu().numpy(), torch.argmax(logits, 1).cpu().numpy(), len(config.labels))
        macro[mode], weighted[mode] = metrics.macro(matrix).f1, metrics.weighted(matrix).f1
        rows = len(truth)
    return Result(config.variant, config.seed, rows, macro, weighted)


def table(results: Sequence[Result], config: TrainConfig) -> str:
    """Markdown: macro / weighted F1 of each variant and case, the mean over seeds and, with several, the range."""
    seeds = sorted({result.seed for result in results})
    lines = [
        f"Validation rows of {config.manifest.name}: {max(r.rows for r in results)}; seeds {', '.join(map(str, seeds))}; "
        f"{config.network.base_channels} base channels, crops of {config.crop_seconds:g} s, {config.epochs} epochs at most. "
        "F1, macro / weighted: mean over the seeds, and the range of the macro figure.",
        "",
        f"| variant | case {' | case '.join(CASES.values())} | the paper's, on Music4All |",
        "|---|---|---|---|---|",
    ]
    for variant, name in NAMES.items():
        own = [result for result in results if result.variant == variant]
        cells = [_cell([r.macro_f1.get(mode) for r in own], [r.weighted_f1.get(mode) for r in own]) for mode in CASES]
        paper = "{:.3f} / {:.3f}".format(*PAPER_F1[variant]) if variant in PAPER_F1 else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {paper} |")
    return "\n".join(lines) + "\n"


def _cell(macro: Sequence[float | None], weighted: Sequence[float | None]) -> str:
    m, w = [x for x in macro if x is not None], [x for x in weighted if x is not None]
    if not m:
        return ""
    spread = f" ({min(m):.3f} to {max(m):.3f})" if len(m) > 1 else ""
    return f"{mean(m):.3f} / {mean(w):.3f}{spread}"
