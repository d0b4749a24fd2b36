from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wordfreq import available_languages

from app.domain import Metadata
from app.families.contract import Label
from app.families.parts.ngrams.fields import FieldReader
from app.families.parts.ngrams.reader import NgramReader
from app.lab.corpus.catalogue import Row
from app.lab.errors import CheckpointError
from app.lab.labels import WORLD_LABELS
from app.lab.training import checkpoint
from app.lab.training.loop import train
from app.lab.training.recipes import reader_words, recipe_of
from app.lab.training.recipes.reader import ReaderConfig, ReaderRecipe
from app.lab.training.recipes.reader_mixes import answer_mix, batch_mix
from app.lab.training.recipes.reader_rows import (
    ALBUM,
    ARTIST,
    TITLE,
    AugmentConfig,
    RowSampler,
    draw_probabilities,
    is_latin,
    read_phrases,
    read_rows,
    romanised,
    texts_of,
    without_accents,
)
from app.lab.training.recipes.reader_words import LENGTHS, MADE, MOST_TITLES, WORD_LISTS, read_made

CODES = [label.code for label in WORLD_LABELS]
LABELS = (
    Label(code="en", iso639_3="eng", name="English"),
    Label(code="fr", iso639_3="fra", name="French"),
    Label(code="ru", iso639_3="rus", name="Russian"),
)
PLAIN = AugmentConfig(
    give_artist=1, give_album=1, give_title=1, give_nothing=0, replace_artist=0, stray_artist=0, replace_album=0,
    lose_accents=0, romanise=0, drop_ngram=0,
)  # fmt: skip
TITLES = {
    0: ["love is in the house", "the night was young", "where have you been", "my own true friend", "dancing with you"],
    1: ["la nuit est à nous", "où sont les étés", "je ne sais pas", "l'amour en fuite", "chanson pour toi"],
    2: ["ночь над рекой", "где же ты была", "песня о любви", "звезда по имени", "мой друг"],
}


def row(title: str, label: int, artist: str = "", album: str = "", strength: str = "script") -> Row:
    return Row("", None, Metadata(artist, album, title), label, "train", strength)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [
        row(title, label, f"artist {label} {i % 3}") for label, titles in TITLES.items() for i, title in enumerate(titles)
    ]


@pytest.fixture(scope="module")
def settings(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a training of some seconds."""
    path = tmp_path_factory.mktemp("reader") / "rows.tsv"
    lines = ["split\tlanguage\tartist\ttitle"]
    for split in ("train", "valid"):
        lines += [f"{split}\t{LABELS[r.label].code}\t{split} {r.metadata.artist}\t{r.metadata.title}" for r in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "catalogue": path, "labels": LABELS, "phrases": False, "made_share": 0.0, "networks": 2, "buckets_log2": 10,
        "embedding_size": 8, "hidden_units": (16, 16), "class_mix": {"en": 0.5, "fr": 0.3, "ru": 0.2}, "unit_dropout": 0.0,
        "epochs": 2, "steps_per_epoch": 50, "batch_size": 64, "warmup_steps": 5, "learning_rate": 0.01,
        "table_learning_rate": 0.05, "device": "cpu",
    }  # fmt: skip


@pytest.fixture(scope="module")
def fields(settings: dict[str, Any]) -> FieldReader:
    return FieldReader(ReaderConfig(**settings).read)


def sampler_of(rows: list[Row], fields: FieldReader, augment: AugmentConfig = PLAIN) -> RowSampler:
    return RowSampler(rows, fields, np.ones(len(rows)), augment)


def test_rows_are_read_with_their_class(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    header = "split\tlanguage\tstrength\tsource\tartist\talbum\ttitle\n"
    first, second = "train\thr\tstrong\tx\tBand\t\tPjesma\n", "valid\tqq\tweak\ty\t\tRecord\tSong\n"
    path.write_text(header + first + second + "test\ten\t\t\t\t\tUnknown Title\n")
    found = read_rows(path, CODES)
    assert [(texts_of(r), CODES[r.label], r.split, r.strength, r.cells["source"]) for r in found] == [
        (("Band", "", "Pjesma"), "sh", "train", "strong", "x"), (("", "Record", "Song"), "others", "valid", "weak", "y"),
    ]  # fmt: skip


def test_phrases_leave_out_held_out_titles() -> None:
    found = read_phrases(CODES)
    assert {CODES[r.label] for r in found} == set(CODES)  # Irish and Maltese are others
    one = texts_of(found[0])[TITLE]
    assert len(read_phrases(CODES, [one.upper()])) < len(found)


def test_titles_are_made_of_the_words_of_a_language(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(WORD_LISTS) <= set(CODES)
    assert set(WORD_LISTS.values()) <= set(available_languages())
    monkeypatch.setattr(reader_words, "WORD_LISTS", {code: WORD_LISTS[code] for code in ("en", "da", "is", "tl")})
    codes = ["ja", "is", "tl"]
    found = read_made(codes)
    titles = [texts_of(r)[TITLE] for r in found]
    assert [texts_of(r) for r in found] == [("", "", title) for title in titles]
    assert {codes[r.label] for r in found} == {"is", "tl"}  # Japanese is told by its script
    assert 0.9 * MOST_TITLES < len([r for r in found if r.label == 1]) <= MOST_TITLES
    assert {len(title.split()) for title in titles} == set(range(1, len(LENGTHS) + 1))
    icelandic = {word for r, title in zip(found, titles, strict=True) if r.label == 1 for word in title.split()}
    assert "ást" in icelandic
    assert not {"love", "the"} & icelandic  # quoted everywhere
    assert titles[0] not in {texts_of(r)[TITLE] for r in read_made(codes, [titles[0].upper()])}


@pytest.mark.parametrize(
    ("text", "written"),
    [("Ночь", "Noch'"), ("été", "été"), ("我爱你", "Wo Ai Ni"), ("ありがとう", "arigatou"), ("夢の中", "夢の中")],
)
def test_romanised_text(text: str, written: str) -> None:
    assert romanised(text) == written
    assert is_latin(written) == (written != "夢の中")


def test_only_latin_letters_lose_their_accents() -> None:
    assert without_accents("Où été Škoda ётй が") == "Ou ete Skoda ётй が"


def test_sampled_rows_keep_their_texts_where_nothing_is_changed(rows: list[Row], fields: FieldReader) -> None:
    given = [row("a title", 0, "somebody", "an album"), *rows]
    texts = {text for r in given for text in texts_of(r)}
    sampler = sampler_of(given, fields)
    places = sampler.augmented(np.array([0, 3]), np.random.default_rng(0))
    numbers = {text: i for i, text in enumerate(dict.fromkeys(["", *(t for r in given for t in texts_of(r))]))}
    assert places[0].tolist() == [numbers["somebody"], numbers["an album"], numbers["a title"]]
    assert places[1, ARTIST] == numbers[texts_of(given[3])[ARTIST]]
    assert places[1, ALBUM] in {numbers[title] for title in TITLES[0]}  # an album is invented from a title of the class
    assert set(numbers) == texts | {""}


def test_augmentation_romanises_drops_and_leaves_nothing(rows: list[Row], fields: FieldReader) -> None:
    russian = np.array([i for i, r in enumerate(rows) if r.label == 2])
    sampler = sampler_of(rows, fields, PLAIN.model_copy(update={"romanise": 1}))
    assert sampler.table.all_latin(sampler.augmented(russian, np.random.default_rng(0))).all()
    assert (
        not sampler_of(rows, fields, PLAIN.model_copy(update={"give_nothing": 1}))
        .augmented(russian, np.random.default_rng(0))
        .any()
    )
    titles_alone = sampler_of(rows, fields, PLAIN.model_copy(update={"give_artist": 0, "give_album": 0}))
    assert not titles_alone.augmented(russian, np.random.default_rng(0))[:, :TITLE].any()


def test_classes_are_drawn_as_the_mix_says_and_rows_by_their_weight() -> None:
    given = [row("a", 0, strength="strong"), row("b", 0), row("c", 1, "x"), row("d", 1, "x"), row("e", 1, "y"), row("f", 2),
             row("愛", 2)]  # fmt: skip
    found = draw_probabilities(given, {"en": 0.6, "fr": 0.3, "ja": 0.1})
    np.testing.assert_allclose([found[:2].sum(), found[2:5].sum(), found[5:].sum()], [0.6, 0.3, 0.1])
    np.testing.assert_allclose([found[0] / found[1], found[2] / found[4], found[5] / found[6]], [8, 2**-0.5, 0.1])


def test_made_titles_have_their_share_of_a_class() -> None:
    given = [row("a", 0), row("b", 0), row("c", 0, strength=MADE), row("d", 1, strength=MADE), row("e", 2)]
    found = draw_probabilities(given, {"en": 0.5, "fr": 0.3, "ru": 0.2}, 0.2)
    np.testing.assert_allclose(found, [0.2, 0.2, 0.1, 0.3, 0.2])


@pytest.mark.parametrize("codes", [CODES, ["en", "fr"], ["sw", "xh"], ["en", "sw"]])
def test_mixes_add_up_and_a_class_without_rows_is_in_no_batch(codes: list[str]) -> None:
    answers = answer_mix(codes)
    assert list(answers) == codes
    assert sum(answers.values()) == pytest.approx(1, abs=1e-4)
    assert min(answers.values()) > 0
    mix = batch_mix(codes, [0, 0], answers)
    assert mix.pop(codes[0]) == 1
    assert not any(mix.values())


def test_a_trained_reader_answers_in_serving_as_in_training(
    settings: dict[str, Any], rows: list[Row], tmp_path: Path
) -> None:
    recipe = recipe_of("reader", settings | {"output": tmp_path, "temperature": 1.5})
    assert isinstance(recipe, ReaderRecipe)
    best = train(recipe)
    stored = checkpoint.load(best, "reader")
    reader = NgramReader(*recipe.part(stored))
    found = np.stack([reader(Metadata(r.metadata.artist, None, r.metadata.title)).vector for r in rows])
    assert (found.argmax(axis=1) == [r.label for r in rows]).all()
    network = recipe.build()
    network.load_state_dict(stored["network"])
    assert recipe.validate(network.eval())["accuracy"] == 1
    alone = np.stack([reader(Metadata(f"valid {r.metadata.artist}", None, r.metadata.title)).vector for r in rows])
    expected = (recipe.logits(network) / 1.5 + recipe.tilt(stored["facts"]["class_mix_of_batches"])).softmax(dim=1)
    np.testing.assert_allclose(alone, expected, atol=0.02)
    with pytest.raises(CheckpointError, match="part of a release"):
        recipe.export(stored)
