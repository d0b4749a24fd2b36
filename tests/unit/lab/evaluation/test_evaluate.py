"""A release measured: what is written, what it says of its data, and the paper's tables. The release is a small real one."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.lab.corpus.catalogue import read_catalogue
from app.lab.errors import CorpusError
from app.lab.evaluation.answers import UNDECIDED, UNSUNG, Answers, EvaluationSet, answer, read_inputs, viewed
from app.lab.evaluation.evaluate import describe
from app.lab.evaluation.report import Measured, as_page, case_report, label_report, markdown
from app.lab.evaluation.tables import JOINED, PRINTED, PRINTED_JOINED, baseline_page, baselines, release_page
from app.lab.features import FeatureExtractor
from app.lab.labels import PAPER_LABELS
from app.lab.progress import Progress
from tests.corpora import LISTEN, write_corpus
from tests.releases import tiny_model

CODES = [label.code for label in PAPER_LABELS]
TEXTS = {
    "en": ("The Beatles", "", "I want to hold your hand and walk with you through the night"),
    "fr": ("Les Enfants", "Sous les ponts de Paris", "Je ne regrette rien de tout ce que nous avons été"),
    "ja": ("", "", "桜の花が咲く頃に会いましょう"),
    "others": ("", "", "Тёмная ночь, только пули свистят по степи"),
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "m.tsv"
    lines = ["path\tartist\talbum\ttitle\tlabel\tsplit"]
    lines += [f"\t{artist}\t{album}\t{title}\t{code}\tvalid" for code, (artist, album, title) in TEXTS.items()]
    lines += ["x.wav\t\t\t123\tsv\tvalid", "y.wav\t\t\tJag vill vara med dig hela natten lång\tsv\tvalid"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_langdetect_by_field_counts_rows_that_have_it(manifest: Path) -> None:
    found = baselines(read_catalogue(manifest, CODES), CODES)
    assert {name: report.rows for name, report in found.items()} == {"artist": 2, "album": 1, "title": 6, JOINED: 6}
    joined = found[JOINED]
    assert joined.recall == pytest.approx({"en": 1, "fr": 1, "ja": 1, "others": 1, "sv": 0.5})
    assert joined.precision["others"] == 0.5  # "123" has no language: counted as one of the others
    assert baselines(read_catalogue(manifest, CODES), [*CODES[:4], "rest", *CODES[5:]]) == {}


def test_the_data_is_described(manifest: Path) -> None:
    chosen = EvaluationSet(manifest, splits=("valid",))
    said = describe(chosen, chosen.rows(CODES))
    assert said == ("m.tsv, split valid: 6 rows, 2 with audio, 6 with metadata.")


def answers_of(labels: np.ndarray, probabilities: np.ndarray) -> Answers:
    """Decided at a probability of .5, after one window."""
    decisions = np.where(probabilities.max(axis=1) >= 0.5, probabilities.argmax(axis=1), UNDECIDED)
    return Answers(labels, probabilities, decisions, np.ones(len(labels), np.int64))


def test_decisions_are_counted_and_what_is_not_sung_stands_apart() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.6, 0.4]], np.float32)
    labels = np.array([0, 1, 0, 0, UNSUNG])
    case = case_report(
        Answers(labels, probabilities, np.array([0, 0, UNSUNG, UNDECIDED, UNSUNG]), np.arange(5)), ["en", "fr"]
    )
    assert (case.rows, case.accuracy, case.coverage) == (4, 0.75, 0.75)
    assert case.answered_precision == pytest.approx(1 / 3)  # a sung row that is answered `zxx` is answered wrongly
    assert case.windows == 2
    assert case.unsung is not None
    assert (case.unsung.rows, case.unsung.found, case.unsung.false_alarms) == (1, 1.0, 0.25)
    assert "Nothing sung, audio only: 1.000 of 1 rows are answered `zxx`, and 0.250" in markdown({"audio_only": case})


def test_the_view_of_eleven_classes_sums_the_others() -> None:
    codes = ["en", "zh", "others", "fr", "ru"]
    probabilities = np.array([[0.3, 0.4, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0, 1.0]], np.float32)
    found = viewed(Answers(np.array([1, UNSUNG]), probabilities, np.array([1, UNSUNG]), np.array([3, 2])), codes)
    rest = CODES.index("others")
    assert found.labels.tolist() == found.decisions.tolist() == [rest, UNSUNG]
    np.testing.assert_allclose(found.probabilities[0, [0, rest, CODES.index("fr")]], [0.3, 0.6, 0.1], atol=1e-6)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    three = viewed(Answers(np.array([4]), probabilities[:1], np.array([-3]), np.array([1])), codes)
    assert three.decisions.tolist() == [-3]


def test_windows_are_listened_to_until_the_release_is_sure(tmp_path: Path) -> None:
    """As served: the first window alone is enough for this one, unless all are asked for."""
    model = tiny_model(listen=LISTEN.model_dump())
    assert model.audio is not None
    rows = read_catalogue(write_corpus(tmp_path, train=7, valid=0), CODES)[18:21]
    real = model.combine
    model.combine = lambda features, mode: replace(real(features, mode), enough=True)  # type: ignore[method-assign]
    model.audio = replace(model.audio, first_windows=1)
    inputs = read_inputs(model, rows, FeatureExtractor(model.audio), Progress())
    assert [len(row.features["audio"]) for row in inputs] == [2, 2, 2]  # 1.3 s
    assert answer(model, inputs)["both"].windows.tolist() == [1, 1, 1]
    assert answer(model, inputs, all_windows=True)["both"].windows.tolist() == [2, 2, 2]


def test_a_branch_that_is_not_trusted_is_not_listened_to(tmp_path: Path) -> None:
    model = tiny_model(listen=LISTEN.model_dump())
    model.audio = None
    inputs = read_inputs(model, read_catalogue(write_corpus(tmp_path, train=1, valid=0), CODES), None, Progress())
    assert set(answer(model, inputs)) == {"text_only"}
    nothing = [replace(row, features={}, informative=frozenset()) for row in inputs]
    with pytest.raises(CorpusError, match=f"none of the {len(inputs)} rows has what the release reads: text"):
        answer(model, nothing)


def measured(seed: int = 0) -> Measured:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 11, 300)
    logits = rng.normal(0, 1, (300, 11)) + 3 * np.eye(11)[labels]
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    case = case_report(answers_of(labels, probabilities), CODES)
    release = f"lrid_net/{seed} (variant atdr, training seed {seed}, sha256 0123)"
    return Measured("m", "m.tsv, split valid.", release, CODES, {"both": case, "text_only": case})


def test_a_case_has_all_its_figures(manifest: Path) -> None:
    case = measured().cases["both"]
    assert sum(point["rows"] for point in case.reliability) == case.rows == 300
    assert case.curve[-1]["coverage"] == 1
    assert case.curve[-1]["precision"] == pytest.approx(case.accuracy, abs=1e-4)
    assert case.by_support == sorted(case.support, key=lambda code: -case.support[code])
    assert json.loads(json.dumps(asdict(case)))["confusion"] == case.confusion


def test_both_conventions_of_macro_f1_are_told() -> None:
    """One answer of a class that no row holds: macro F1 counts the class, as scikit-learn does, *held F1* does not."""
    labels = np.array([0, 0, 1, 1])
    probabilities = np.full((4, 3), 0.1, np.float32) + 0.7 * np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    case = case_report(answers_of(labels, probabilities), ["en", "fr", "ja"])
    assert case.macro.f1 == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert case.held_macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert case.summary()["held_macro_f1"] == 0.8333
    assert "0.556 | 0.833 |" in markdown({"text_only": case})


def test_the_page_names_data_release_and_pictures(manifest: Path) -> None:
    page = as_page(measured())
    for words in (
        "# lrid_net/0 on m", "Data: m.tsv, split valid.", "training seed 0", "| both | 300 |", "## Text only, by support",
        "![Confusion, text only](confusion_text_only.png)",
    ):  # fmt: skip
        assert words in page


def test_pictures_are_drawn(manifest: Path, tmp_path: Path) -> None:
    from app.lab.evaluation.figures import draw

    draw(measured(), tmp_path)
    written = {path.name for path in tmp_path.glob("*.png")}
    assert written == {"coverage.png", "reliability.png", "confusion_both.png", "confusion_text_only.png"}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in written)


def test_what_was_printed_is_consistent() -> None:
    """Means of table 3 are the joined row of tables 1 and 2: the paper's own arithmetic, and a guard against slips here."""
    support = dict(zip(CODES, (84_103, 7_020, 3_225, 1_145, 1_059, 994, 615, 577, 446, 437, 231), strict=True))
    for name in ("precision", "recall", "f1"):
        values = {code: getattr(average, name) for code, average in PRINTED_JOINED.items()}
        assert np.mean(list(values.values())) == pytest.approx(getattr(PRINTED[JOINED]["macro"], name), abs=0.002)
        mean = sum(values[code] * n for code, n in support.items()) / sum(support.values())
        assert mean == pytest.approx(getattr(PRINTED[JOINED]["weighted"], name), abs=0.002)


def test_tables_one_to_three_stand_beside_the_printed_ones(manifest: Path) -> None:
    runner = CliRunner()
    for number, words in ((1, "| all joined | 6 |"), (2, "| .600 / .368 / .456".replace("| .", "0.")), (3, "| fr | 1.000")):
        result = runner.invoke(app, ["table", str(number), str(manifest), "--split", "valid"])
        assert result.exit_code == 0, result.output
        assert f"## Table {number} of Choi & Wang 2021" in result.output
        assert "m.tsv, split valid: 6 rows, 2 with audio" in result.output
        assert "langdetect with seed 0" in result.output
        assert words.replace("/ .", "/ 0.") in result.output
    assert runner.invoke(app, ["table", "4", str(manifest)]).exit_code == 2  # needs a release
    assert runner.invoke(app, ["table", "1", str(manifest), "lrid_net/1"]).exit_code == 2  # takes none


def test_tables_of_releases(manifest: Path) -> None:
    first, second = measured(), measured(1)
    by_language = release_page(4, [first])
    assert "### Both" in by_language
    assert "| language | precision |" in by_language
    table = release_page(5, [first, replace(second, cases={"both": second.cases["both"]})])
    assert table.count("| lrid_net/0 (variant atdr) | 300 |") == 2
    assert table.count("| lrid_net/1 (variant atdr) | 300 |") == 1
    assert "Audio only" not in table
    assert "Main, both inputs, .688" in table


def test_a_table_of_labels_alone() -> None:
    report = label_report(np.array([0, 0, 1]), np.array([0, 1, 1]), ["en", "fr"])
    page = baseline_page(1, {JOINED: report}, "Rows.")
    assert page.endswith("| all joined | 3 | 0.750 / 0.750 / 0.667 | 0.510 / 0.569 / 0.429 |\n")
