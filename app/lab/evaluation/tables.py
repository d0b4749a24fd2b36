"""The tables of Choi & Wang 2021, each on any rows, beside what the paper printed (Music4All, its validation split).

1, 2   langdetect by artist, album, title and all joined: macro, weighted
3      langdetect on all joined, by language
4      one release by language, both inputs (the paper's figures 3 and 4 as a table)
5      releases of all variants in the three cases: both inputs, audio missing, text missing (figures 6, 7, 8)
"""

from collections.abc import Mapping, Sequence

import numpy as np

from app.domain import METADATA_FIELDS, Metadata
from app.families.lrid_net.read import LangdetectReader
from app.families.parts.profiles import langdetect_languages
from app.lab import markdown as md
from app.lab.corpus.catalogue import Row
from app.lab.evaluation.answers import REST
from app.lab.evaluation.metrics import Average
from app.lab.evaluation.report import LabelReport, Measured, class_table, label_report, title

SEED = 0  # of langdetect's draws
JOINED = "all joined"
NEEDS_RELEASE = (4, 5)
PRINTED: Mapping[str, Mapping[str, Average]] = {  # of tables 1 and 2: macro, weighted
    "artist": {"macro": Average(0.323, 0.221, 0.149), "weighted": Average(0.600, 0.368, 0.456)},
    "album": {"macro": Average(0.399, 0.378, 0.284), "weighted": Average(0.750, 0.576, 0.652)},
    "title": {"macro": Average(0.450, 0.444, 0.317), "weighted": Average(0.766, 0.573, 0.656)},
    JOINED: {"macro": Average(0.510, 0.569, 0.429), "weighted": Average(0.922, 0.819, 0.857)},
}
PRINTED_JOINED = {  # of table 3; the last is the paper's "Slovakian", which is `sv` in its data
    "en": Average(0.969, 0.859, 0.911), "pt": Average(0.897, 0.695, 0.783), "es": Average(0.676, 0.620, 0.647),
    "ko": Average(0.444, 0.003, 0.007), "others": Average(0.092, 0.700, 0.162), "fr": Average(0.367, 0.585, 0.452),
    "ja": Average(0.895, 0.153, 0.261), "de": Average(0.093, 0.773, 0.166), "pl": Average(0.695, 0.572, 0.627),
    "it": Average(0.229, 0.748, 0.350), "sv": Average(0.252, 0.554, 0.347),
}  # fmt: skip
PRINTED_MODELS = (
    "The paper, on Music4All: TO .526 / .415 / .422 macro, .896 / .914 / .900 weighted; AO .387 / .248 / .275 and "
    ".852 / .884 / .857; Main, both inputs, .688 / .435 / .504 and .911 / .922 / .911. It gives the variants with dropout "
    "as bars: with both inputs they are level with Main; with audio missing TO leads by .051 macro F1; with text missing "
    "ATDr-Main gains .086 and .101 F1 over Main, and AO stays ahead."
)


def baselines(rows: Sequence[Row], codes: Sequence[str]) -> dict[str, LabelReport]:
    """Measures langdetect's first guess by what it is given; no class and no guess count as `others`; none without it."""
    if REST not in codes:
        return {}
    languages = langdetect_languages()
    reader = LangdetectReader(languages, seed=SEED)
    rest = codes.index(REST)
    class_of = np.array([codes.index(code) if code in codes else rest for code in languages] + [rest])  # last: undetected
    found = {}
    for name, given in [*((field, (field,)) for field in METADATA_FIELDS), (JOINED, METADATA_FIELDS)]:
        texts = [(Metadata(**{field: getattr(row.metadata, field) for field in given}), row.label) for row in rows]
        texts = [(metadata, label) for metadata, label in texts if metadata.fields]
        if texts:
            guesses = class_of[[int(reader(metadata).vector.argmax()) for metadata, _ in texts]]
            found[name] = label_report(np.array([label for _, label in texts]), guesses, codes)
    return found


def baseline_page(number: int, baselines: Mapping[str, LabelReport], data: str) -> str:
    """Table 1, 2 or 3 as Markdown."""
    head = f"## Table {number} of Choi & Wang 2021\n\nData: {data} langdetect with seed {SEED}.\n"
    if number == 3:
        report = baselines[JOINED]
        ours = {code: Average(report.precision[code], report.recall[code], report.f1[code]) for code in report.by_support}
        rows = [(code, own, PRINTED_JOINED.get(code), f"{report.support[code]:,}") for code, own in ours.items()]
        return f"{head}\n{md.table(['language', 'P / R / F1', 'paper', 'support'], rows)}\n"
    average = "macro" if number == 1 else "weighted"
    lines = [(name, one.rows, getattr(one, average), PRINTED[name][average]) for name, one in baselines.items()]
    return f"{head}\n{md.table(['langdetect on', 'rows', f'{average} P / R / F1', 'paper'], lines)}\n"


def release_page(number: int, measured: Sequence[Measured]) -> str:
    """Table 4 of one release or 5 of several, on the same rows, as Markdown."""
    releases = "  \n".join(f"Release: {m.release}" for m in measured)
    head = f"## Table {number}, after Choi & Wang 2021\n\nData: {measured[0].data}  \n{releases}\n\n{PRINTED_MODELS}\n"
    if number == 4:
        cases = (f"### {title(name).capitalize()}\n\n{class_table(case)}" for name, case in measured[0].cases.items())
        return "\n".join([head, *cases])
    parts = [head]
    for name in dict.fromkeys(name for m in measured for name in m.cases):
        own = [(m.release.split(", training")[0] + ")", m.cases[name]) for m in measured if name in m.cases]
        rows = [(release, case.rows, case.macro, case.weighted) for release, case in own]  # family/release (variant)
        heads = ["release", "rows", "macro P / R / F1", "weighted P / R / F1"]
        parts += [f"### {title(name).capitalize()}\n", md.table(heads, rows), ""]
    return "\n".join(parts)
