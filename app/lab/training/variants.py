"""The paper's experiments (§5): all six variants on one catalogue, each in the three cases, with a table of what came out.

A variant that has its scores.json is not trained again, one that was stopped goes on from its checkpoint. Scores that
other settings or rows gave are refused: a table must not mix them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean

from app.lab.errors import TrainingError
from app.lab.evaluation import metrics
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.config import MAY_CHANGE
from app.lab.training.loop import train
from app.lab.training.recipes.lrid_net import LridNetConfig, LridNetRecipe, VariantName

CASES = {"both": "1: both", "text_only": "2: audio missing", "audio_only": "3: text missing"}
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
    macro_f1: dict[str, float]  # by case
    weighted_f1: dict[str, float]


def run_variants(config: LridNetConfig, seeds: Sequence[int], progress: Progress) -> str:
    """Trains what has no scores yet, under `config.output`; returns the table, which variants.md holds too.

    Raises TrainingError and its kinds.
    """
    results = []
    for seed in seeds:
        for variant, name in NAMES.items():
            output = config.output / f"{variant}-{seed}"
            own = {"variant": variant, "seed": seed, "output": output, "cache": config.cache_folder}
            own |= {"resume": (output / "last.pt").is_file()}
            progress.say(f"{name}, seed {seed}")
            results.append(_result(LridNetConfig.model_validate(config.model_dump() | own), progress))
    text = table(results, config)
    (config.output / "variants.md").write_text(text, encoding="utf-8")
    return text


def _result(config: LridNetConfig, progress: Progress) -> Result:
    """What stands in scores.json, or a training and its scores."""
    path, recipe = config.output / "scores.json", LridNetRecipe(config)
    recipe.prepare(progress)
    settings = json.loads(config.model_dump_json(exclude=set(MAY_CHANGE - {"patience_epochs", "init_from"})))
    told = {"settings": settings, "data": recipe.fingerprint()}
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if differs := [name for name in told if stored[name] != told[name]]:
            what = [n for n in settings if settings[n] != stored["settings"].get(n)] or differs
            raise TrainingError(f"{path} is of other {', '.join(what)}; give the same, or another --output, or delete it")
        return Result(**stored["result"])
    best = train(recipe, progress)
    result = score(recipe, checkpoint.load(best, recipe.name))
    path.write_text(json.dumps(told | {"result": asdict(result)}), encoding="utf-8")
    return result


def score(recipe: LridNetRecipe, stored: dict[str, object]) -> Result:
    """A checkpoint in all three cases, on all validation rows."""
    network = recipe.build().to(recipe.config.torch_device)
    network.load_state_dict(stored["network"])  # type: ignore[arg-type]
    macro: dict[str, float] = {}
    weighted: dict[str, float] = {}
    rows = 0
    for mode, case in recipe.cases(network.eval()).items():
        labels, predictions = case.labels.cpu().numpy(), case.logits.argmax(dim=1).cpu().numpy()
        macro[mode] = metrics.average(labels, predictions, "macro").f1
        weighted[mode] = metrics.average(labels, predictions, "weighted").f1
        rows = max(rows, len(labels))
    return Result(recipe.config.variant, recipe.config.seed, rows, macro, weighted)


def table(results: Sequence[Result], config: LridNetConfig) -> str:
    """Markdown: macro / weighted F1 of each variant and case, the mean over seeds and, with several, the range."""
    seeds = sorted({result.seed for result in results})
    lines = [
        f"Validation rows of {config.catalogue.name}: {max(r.rows for r in results)}; seeds {', '.join(map(str, seeds))}; "
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
