"""Runs the paper's experiments (§5): all six variants on one catalogue, in the three cases, with a table of the results.

A finished variant is not trained again, a stopped one goes on from its checkpoint; checkpoints of other settings or rows
are refused: a table must not mix them.
"""

from collections.abc import Mapping, Sequence
from statistics import mean

from torch import nn

from app.families.lrid_net.network import LridNet
from app.lab import markdown as md
from app.lab.evaluation.report import LabelReport, label_report
from app.lab.progress import Progress
from app.lab.training.recipes.lrid_net import LridNetConfig, LridNetRecipe, VariantName

CASES = {"both": "1: both", "text_only": "2: audio missing", "audio_only": "3: text missing"}
NAMES: dict[VariantName, str] = {
    "main": "Main", "adr": "ADr-Main", "tdr": "TDr-Main", "atdr": "ATDr-Main", "to": "TO", "ao": "AO",
}  # fmt: skip
PAPER_F1: dict[VariantName, tuple[float, float]] = {  # macro, weighted, with what the variant takes (figure 3)
    "main": (0.504, 0.911), "to": (0.422, 0.900), "ao": (0.275, 0.857),
}  # fmt: skip


Results = Mapping[tuple[VariantName, int], Mapping[str, LabelReport]]  # by variant and seed; by case


def run_variants(config: LridNetConfig, seeds: Sequence[int], progress: Progress) -> str:
    """Trains all variants under `config.output`; returns the table, also in variants.md. Raises TrainingError."""
    results = {}
    for seed in seeds:
        for variant, name in NAMES.items():
            progress.say(f"{name}, seed {seed}")
            recipe = LridNetRecipe(config).variant(f"{variant}-{seed}", variant=variant, seed=seed)
            results[variant, seed] = score(recipe, recipe.trained(progress)[0])
    text = table(results, config)
    (config.output / "variants.md").write_text(text, encoding="utf-8")
    return text


def score(recipe: LridNetRecipe, network: nn.Module) -> dict[str, LabelReport]:
    """Measures a network in all three cases, on all validation rows."""
    assert isinstance(network, LridNet)
    return {
        mode: label_report(case.labels.cpu().numpy(), case.logits.argmax(dim=1).cpu().numpy(), recipe.config.codes)
        for mode, case in recipe.cases(network).items()
    }


def table(results: Results, config: LridNetConfig) -> str:
    """Writes macro / weighted F1 of each variant and case, the mean over seeds and, with several, the range."""
    seeds = sorted({seed for _, seed in results})
    rows = []
    for variant, name in NAMES.items():
        own = [results[variant, seed] for seed in seeds if (variant, seed) in results]
        cells = [_cell([cases[mode] for cases in own if mode in cases]) for mode in CASES]
        paper = "{:.3f} / {:.3f}".format(*PAPER_F1[variant]) if variant in PAPER_F1 else ""
        rows.append([name, *cells, paper])
    heads = ["variant", *(f"case {case}" for case in CASES.values()), "the paper's, on Music4All"]
    n_rows = max(case.rows for cases in results.values() for case in cases.values())
    return (
        f"Validation rows of {config.catalogue.name}: {n_rows}; seeds {', '.join(map(str, seeds))}; "
        f"{config.network.base_channels} base channels, crops of {config.crop_seconds:g} s, {config.epochs} epochs at most. "
        f"F1, macro / weighted: mean over the seeds, and the range of the macro figure.\n\n{md.table(heads, rows)}\n"
    )


def _cell(cases: Sequence[LabelReport]) -> str:
    macro = [case.macro.f1 for case in cases]
    spread = f" ({min(macro):.3f} to {max(macro):.3f})" if len(macro) > 1 else ""
    return f"{mean(macro):.3f} / {mean(case.weighted.f1 for case in cases):.3f}{spread}" if cases else ""
