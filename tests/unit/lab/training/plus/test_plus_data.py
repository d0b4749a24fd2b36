"""Which rows are drawn, and what is done to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.domain import Metadata
from app.lab.training.corpus import Row
from app.lab.training.plus_data import (
    ALBUM,
    ARTIST,
    TITLE,
    Drawer,
    Habits,
    draw_probabilities,
    is_latin,
    latin_surplus,
    read_phrases,
    texts_of,
)
from app.lab.training.train_plus import PlusConfig, probabilities_of, rows_of, sources_of


def test_rows_are_drawn_in_the_class_mix_and_by_strength(rows: list[Row], config: PlusConfig) -> None:
    changed = [replace(row, strength="weak-artist") if i % 2 else row for i, row in enumerate(rows)]
    p = draw_probabilities(changed, config.class_mix(), {"weak": 0.5})
    labels = np.array([row.label for row in changed])
    np.testing.assert_allclose(np.bincount(labels, p), config.class_mix())
    of_english = p[labels == 0]
    np.testing.assert_allclose(of_english.max() / of_english.min(), 2.0)


def test_an_artist_of_many_rows_counts_less(rows: list[Row]) -> None:
    many = [replace(rows[0], metadata=Metadata(artist="Many", title=str(i))) for i in range(16)]
    few = [replace(rows[0], metadata=Metadata(artist="Few", title="one")), replace(rows[0], metadata=Metadata(title="x"))]
    p = draw_probabilities(many + few, np.array([1.0]), {}, artist_power=0.5)
    np.testing.assert_allclose(p / p[-1], [0.25] * 16 + [1.0, 1.0])


def test_phrases_are_rows_of_their_class(config: PlusConfig) -> None:
    phrases = read_phrases(config.codes)
    assert {row.label for row in phrases} == {0, 1, 2}
    assert all(row.metadata.fields == ("title",) and row.split == "train" for row in phrases)
    titles = [row.metadata.title for row in phrases]
    assert len(set(titles)) > 0.9 * len(titles) > 200


STILL = {"give_artist": 1.0, "give_album": 1.0, "give_title": 1.0, "give_nothing": 0.0, "replace_artist": 0.0,
         "stray_artist": 0.0, "replace_album": 0.0, "lose_accents": 0.0, "drop_ngram": 0.0}  # fmt: skip


def test_habits_one_by_one(rows: list[Row]) -> None:
    uniform = np.full(len(rows), 1 / len(rows))
    rng = np.random.default_rng(0)

    def drawer(**habits: float) -> Drawer:
        return Drawer(rows, uniform, Habits(**{**STILL, **habits}))

    whole = [i for i, row in enumerate(rows) if row.metadata.album]
    assert all(drawer().likeness(i, rng) == texts_of(rows[i].metadata) for i in whole)
    assert drawer(give_nothing=1.0).likeness(0, rng) == (None, None, None)
    assert all(drawer(give_artist=0.0).likeness(i, rng)[ARTIST] is None for i in range(20))
    assert all(any(drawer(give_artist=0.0, give_album=0.0, give_title=0.0).likeness(i, rng)) for i in range(20))
    swapped = {drawer(replace_artist=1.0).likeness(0, rng)[ARTIST] for _ in range(30)}
    assert len(swapped) > 3
    assert swapped <= {row.metadata.artist for row in rows if row.label == rows[0].label}
    strays = {drawer(stray_artist=1.0).likeness(0, rng)[ARTIST] for _ in range(60)}
    assert len({artist.split()[2] for artist in strays if artist}) == 3
    summer = next(i for i, row in enumerate(rows) if "l'été" in (row.metadata.title or ""))
    assert "l'ete" in (drawer(lose_accents=1.0).likeness(summer, rng)[TITLE] or "")


def test_whether_a_field_is_given_does_not_tell_where_a_row_comes_from(rows: list[Row]) -> None:
    """Rows without an album are sent with one as often as others: the title of a row of the artist."""
    drawer = Drawer(rows, np.full(len(rows), 1 / len(rows)), Habits(**{**STILL, "give_album": 0.5}))
    rng = np.random.default_rng(0)
    for i in (next(i for i, row in enumerate(rows) if bool(row.metadata.album) == has) for has in (True, False)):
        sent = [drawer.likeness(i, rng)[ALBUM] for _ in range(300)]
        assert np.mean([album is not None for album in sent]) == pytest.approx(0.5, abs=0.1)
        artist = rows[i].metadata.artist
        known = {row.metadata.title for row in rows if row.metadata.artist == artist} | {rows[i].metadata.album, None}
        assert set(sent) <= known


def test_accents_are_lost_from_latin_letters_only(rows: list[Row]) -> None:
    row = replace(rows[0], metadata=Metadata(artist="Й", album="가がé", title="cœur"))
    drawer = Drawer([row], np.ones(1), Habits(**{**STILL, "lose_accents": 1.0}))
    assert drawer.likeness(0, np.random.default_rng(0)) == ("Й", "가がe", "cœur")


def test_phrases_that_are_held_out_titles_are_left_out(config: PlusConfig) -> None:
    all_of_them = read_phrases(config.codes)
    title = all_of_them[0].metadata.title
    fewer = read_phrases(config.codes, [title.upper()])
    assert title not in {row.metadata.title for row in fewer}
    assert len(fewer) == len(all_of_them) - sum(row.metadata.title == title for row in all_of_them)


def test_rows_of_a_source_may_weigh_more(rows: list[Row], config: PlusConfig) -> None:
    train_rows, valid_rows = rows_of(config)
    assert {row.split for row in train_rows} == {"train"}
    assert {row.split for row in valid_rows} == {"valid"}
    assert set(sources_of(config.manifest).values()) == {"made"}
    own = np.where(np.arange(len(rows)) % 2, 1.0, 3.0)
    p = draw_probabilities(rows, config.class_mix(), {}, own=own)
    labels = np.array([row.label for row in rows])
    np.testing.assert_allclose(np.bincount(labels, p), config.class_mix())
    np.testing.assert_allclose(p[labels == 0].max() / p[labels == 0].min(), 3.0)


def test_rows_in_latin_letters_may_be_rare_within_a_class(rows: list[Row], config: PlusConfig) -> None:
    """The class keeps its share; within it, names in its own script are drawn ten times as often as the others."""
    blossom = Metadata(title="桜の花")
    native = [replace(row, metadata=blossom) if row.label == 2 and i % 2 else row for i, row in enumerate(rows)]
    p = probabilities_of(native, replace(config, latin_weights={"de": 0.1}, strength_weights={}, artist_power=1.0))
    labels = np.array([row.label for row in native])
    np.testing.assert_allclose(np.bincount(labels, p), config.class_mix())
    own_script = np.array([row.metadata == blossom for row in native])
    np.testing.assert_allclose(p[own_script].mean() / p[(labels == 2) & ~own_script].mean(), 10.0)
    np.testing.assert_allclose(p[labels == 0], p[labels == 0][0])


def test_the_surplus_goes_to_texts_whose_letters_are_all_latin() -> None:
    texts = [("Perfume", None, "Dream Fighter"), ("Perfume", None, "夢"), (None, None, None), (None, "12", "1984")]
    found = latin_surplus(texts, [1.0, 0.01])
    np.testing.assert_allclose(found, [[0, np.log(100)], [0, 0], [0, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("title", "latin"),
    [("Sexy! No No No...", True), ("Namida no Mukō", True), ("Đường về", True), ("1984", True), ("사랑 (Love)", False),
     ("桜", False), ("さくら", False), ("Тёмная ночь", False)],
)  # fmt: skip
def test_what_is_latin(title: str, latin: bool) -> None:
    assert is_latin(title) == latin
