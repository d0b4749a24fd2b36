"""The paper's experiments (§5): all six variants on one corpus, each in the three cases, with a table of what came out.

Resumable: a variant that has its scores.json is not trained again, one that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean

import torch
from rich.console import Console
from rich.progress import Progress

from app.evaluation import metrics
from app.families.contract import Mode
from app.training.config import TrainConfig, VariantName
from app.training.data import prepare
from app.training.train import build, pick_device, read_checkpoint, train
from app.training.validate import Ear, answers

CASES: dict[Mode, str] = {"both": "1: both", "text_only": "2: audio missing", "audio_only": "3: text missing"}
NAMES: dict[VariantName, str] = {
    "main": "Main", "adr": "ADr-Main", "tdr": "TDr-Main", "atdr": "ATDr-Main", "to": "TO", "ao": "AO",
}  # fmt: skip
PAPER_F1: dict[VariantName, tuple[float, float]] = {  # macro, weighted, with what the variant takes (figure 3)
    "main": (0.504, 0.911), "to": (0.422, 0.900), "ao": (0.275, 0.857),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One training, measured on the validation rows."""

    variant: VariantName
    seed: int
    rows: int
    macro_f1: dict[Mode, float]  # by case
    weighted_f1: dict[Mode, float]


def run_variants(config: TrainConfig, seeds: Sequence[int], console: Console) -> list[Result]:
    """Trains what has no scores yet, under `config.output`. Raises TrainingError and its kinds."""
    results = []
    for seed in seeds:
        for variant, name in NAMES.items():
            output = config.output / f"{variant}-{seed}"
            told = replace(config, variant=variant, seed=seed, output=output, cache=config.cache or config.output / "cache")
            if not (output / "scores.json").is_file():
                console.print(f"{name}, seed {seed}", highlight=False)
                train(replace(told, resume=(output / "last.pt").is_file()))
                (output / "scores.json").write_text(json.dumps(asdict(score(told))), encoding="utf-8")
            results.append(Result(**json.loads((output / "scores.json").read_text(encoding="utf-8"))))
    text = table(results, config)
    (config.output / "variants.md").write_text(text, encoding="utf-8")
    (config.output / "variants.json").write_text(json.dumps([asdict(r) for r in results], indent=2), encoding="utf-8")
    return results


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
