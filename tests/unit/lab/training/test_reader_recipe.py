from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.domain import Metadata
from app.families.lrid_net.profiles import langdetect_languages
from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.ngrams.fields import FieldReader
from app.families.parts.ngrams.reader import NgramReader
from app.lab.errors import CorpusError
from app.lab.training.recipes.reader import ReaderConfig, predict, train
from app.lab.training.recipes.reader_release import config_of, temperature_of, tensors_of, tilt
from app.lab.training.recipes.reader_rows import (
    ALBUM,
    ARTIST,
    TITLE,
    AugmentConfig,
    FieldTable,
    ReaderRow,
    RowSampler,
    Weights,
    draw_probabilities,
    is_latin,
    read_phrases,
    read_rows,
    romanised,
    without_accents,
)
from app.lab.training.recipes.reader_settings import CODES, answer_mix, batch_mix, class_of

MIX = {"en": 0.5, "fr": 0.3, "ru": 0.2}
PLAIN = AugmentConfig(give_artist=1, give_album=1, give_title=1, give_nothing=0, replace_artist=0, stray_artist=0,
                      replace_album=0, lose_accents=0, romanise=0, drop_ngram=0)  # fmt: skip
TITLES = {
    0: ["love is in the house", "the night was young", "where have you been", "my own true friend", "dancing with you"],
    1: ["la nuit est à nous", "où sont les étés", "je ne sais pas", "l'amour en fuite", "chanson pour toi"],
    2: ["ночь над рекой", "где же ты была", "песня о любви", "звезда по имени", "мой друг"],
}


def row(title: str, label: int, artist: str = "", album: str = "", strength: str = "strong", source: str = "a") -> ReaderRow:
    return ReaderRow((artist, album, title), label, "train", strength, source, list(MIX)[label])


@pytest.fixture(scope="module")
def config() -> ReaderConfig:
    read = NgramConfig(
        class_mix=MIX, languages=list(langdetect_languages()), buckets_log2=10, embedding_size=8, hidden_units=[16, 16]
    )
    return ReaderConfig(
        read=read,
        codes=tuple(MIX),
        batch_mix=dict.fromkeys(MIX, 1 / 3),
        latin_shares={"ru": 0.01},
        weights=Weights(strengths={}, sources={}, latin={}),
        epochs=2,
        rows_per_epoch=3200,
        batch_size=64,
        warmup_steps=5,
        learning_rate=0.01,
        table_learning_rate=0.05,
        unit_dropout=0.0,
    )


@pytest.fixture(scope="module")
def fields(config: ReaderConfig) -> FieldReader:
    return FieldReader(config.read)


@pytest.fixture(scope="module")
def rows() -> list[ReaderRow]:
    return [
        row(title, label, f"artist {label} {i % 3}") for label, titles in TITLES.items() for i, title in enumerate(titles)
    ]


def sampler_of(rows: list[ReaderRow], fields: FieldReader, augment: AugmentConfig = PLAIN) -> RowSampler:
    return RowSampler(rows, fields, np.ones(len(rows)), augment)


def test_rows_are_read_with_their_class(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    header = "split\tlanguage\tstrength\tsource\tartist\talbum\ttitle\n"
    first, second = "train\thr\tstrong\tx\tBand\t\tPjesma\n", "valid\tqq\tweak\ty\t\tRecord\tSong\n"
    path.write_text(header + first + second + "test\ten\t\t\t\t\t \n")
    found = read_rows(path, class_of, lambda metadata: metadata)
    assert [(r.texts, CODES[r.label], r.split, r.strength, r.source) for r in found] == [
        (("Band", "", "Pjesma"), "sh", "train", "strong", "x"), (("", "Record", "Song"), "others", "valid", "weak", "y"),
    ]  # fmt: skip


def test_rows_without_a_language_or_a_known_split_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("split\tlanguage\ttitle\ndev\ten\tSong\n")
    with pytest.raises(CorpusError, match=r"rows\.tsv, 2: needs a language and a split, has 'en' and 'dev'"):
        read_rows(path, class_of, lambda metadata: metadata)


def test_phrases_leave_out_held_out_titles() -> None:
    found = read_phrases(class_of)
    assert {CODES[r.label] for r in found} == set(CODES)  # Irish and Maltese are others
    one = found[0].texts[TITLE]
    assert len(read_phrases(class_of, [one.upper()])) < len(found)


@pytest.mark.parametrize(
    ("text", "written"),
    [("Ночь", "Noch'"), ("été", "été"), ("我爱你", "Wo Ai Ni"), ("ありがとう", "arigatou"), ("夢の中", "夢の中")],
)
def test_romanised_text(text: str, written: str) -> None:
    assert romanised(text) == written
    assert is_latin(written) == (written != "夢の中")


def test_only_latin_letters_lose_their_accents() -> None:
    assert without_accents("Où été Škoda ётй が") == "Ou ete Skoda ётй が"


def test_sampled_rows_keep_their_texts_where_nothing_is_changed(rows: list[ReaderRow], fields: FieldReader) -> None:
    given = [row("a title", 0, "somebody", "an album"), *rows]
    texts = {text for r in given for text in r.texts}
    sampler = sampler_of(given, fields)
    places = sampler.augmented(np.array([0, 3]), np.random.default_rng(0))
    numbers = {text: i for i, text in enumerate(dict.fromkeys(["", *(t for r in given for t in r.texts)]))}
    assert places[0].tolist() == [numbers["somebody"], numbers["an album"], numbers["a title"]]
    assert places[1, ARTIST] == numbers[given[3].texts[ARTIST]]
    assert places[1, ALBUM] in {numbers[title] for title in TITLES[0]}  # an album is invented from a title of the class
    assert set(numbers) == texts | {""}


def test_augmentation_romanises_drops_and_leaves_nothing(rows: list[ReaderRow], fields: FieldReader) -> None:
    russian = np.array([i for i, r in enumerate(rows) if r.label == 2])
    sampler = sampler_of(rows, fields, replace(PLAIN, romanise=1))
    assert sampler.table.all_latin(sampler.augmented(russian, np.random.default_rng(0))).all()
    assert not sampler_of(rows, fields, replace(PLAIN, give_nothing=1)).augmented(russian, np.random.default_rng(0)).any()
    titles_alone = sampler_of(rows, fields, replace(PLAIN, give_artist=0, give_album=0))
    assert not titles_alone.augmented(russian, np.random.default_rng(0))[:, :TITLE].any()


def test_classes_are_drawn_as_the_mix_says_and_rows_by_their_weight() -> None:
    given = [row("a", 0, strength="weak"), row("b", 0), row("c", 1, "x"), row("d", 1, "x"), row("e", 1, "y"), row("f", 2)]
    weights = Weights(strengths={"weak": 0.5}, sources={}, latin={2: 0.1}, artist_power=0.5)
    found = draw_probabilities(given, np.array([0.6, 0.3, 0.1]), weights)
    np.testing.assert_allclose([found[:2].sum(), found[2:5].sum(), found[5]], [0.6, 0.3, 0.1])
    assert found[0] / found[1] == pytest.approx(0.5)
    assert found[2] / found[4] == pytest.approx(2**-0.5)


def test_mixes_add_up_and_a_class_without_rows_is_in_no_batch() -> None:
    given = [ReaderRow(("", "", "x"), label, "train", "", "", "") for label in range(len(CODES) - 1)]
    mix = batch_mix(given)
    assert mix["others"] == 0
    assert sum(answer_mix().values()) == pytest.approx(1, abs=1e-4)
    assert min(answer_mix().values()) > 0


def test_trained_networks_answer_in_serving_as_in_training(
    config: ReaderConfig, rows: list[ReaderRow], fields: FieldReader
) -> None:
    networks = [
        train(replace(config, seed=seed), sampler_of(rows, fields, AugmentConfig(drop_ngram=0.1))) for seed in (1, 2)
    ]
    tensors = tensors_of(networks, config, temperature=1.5)
    reader = NgramReader(config_of(config, 2), tensors)
    songs = [Metadata(r.texts[ARTIST], None, r.texts[TITLE]) for r in rows]
    found = np.stack([reader(song).vector for song in songs])
    assert (found.argmax(axis=1) == [r.label for r in rows]).mean() > 0.9
    texts = list(dict.fromkeys(["", *(text for r in rows for text in r.texts)]))
    places = np.array([[texts.index(text) for text in r.texts] for r in rows])
    logits = predict(networks, FieldTable.of(fields, texts), places) / 1.5 + tilt(config)
    np.testing.assert_allclose(found, torch.from_numpy(logits).softmax(dim=1), atol=0.02)


def test_the_same_seed_trains_the_same_network(config: ReaderConfig, rows: list[ReaderRow], fields: FieldReader) -> None:
    short = replace(config, rows_per_epoch=256)
    first, second = (train(short, sampler_of(rows, fields, AugmentConfig())).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_temperature_undoes_what_logits_are_multiplied_by() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    labels = [int(rng.choice(3, p=np.exp(z) / np.exp(z).sum())) for z in logits]
    assert temperature_of(2 * logits, labels, np.zeros(3)) == pytest.approx(2, rel=0.1)
