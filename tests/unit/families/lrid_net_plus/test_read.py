from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import Metadata
from app.errors import ReleaseError
from app.families.lrid_net_plus.config import PlusReadConfig
from app.families.lrid_net_plus.read import FieldReader, PlusReader

SONG = Metadata(artist="Les Enfants du Canal", album="Sous les ponts", title="J'attends l'été")


def test_fields_have_places_of_their_own(reader: PlusReader, read_config: PlusReadConfig) -> None:
    size = read_config.embedding_size
    as_title = reader(Metadata(title="Sous les ponts")).vector
    as_album = reader(Metadata(album="Sous les ponts")).vector
    assert not as_title[: 2 * size].any()
    assert not as_album[:size].any()
    np.testing.assert_array_equal(as_title[2 * size : 3 * size], as_album[size : 2 * size])
    assert as_title.shape == (read_config.n_features,)
    assert list(as_title[-3:]) == [0, 0, 1]
    assert list(as_album[-3:]) == [0, 1, 0]


def test_a_field_is_the_sum_of_its_ngrams(reader: PlusReader, read_config: PlusReadConfig, table: np.ndarray) -> None:
    rows = FieldReader(read_config)(["L'Été"])[0].buckets
    size = read_config.embedding_size
    expected = table[rows].sum(axis=0) / np.sqrt(len(rows))
    np.testing.assert_allclose(reader(Metadata(title="L'Été")).vector[2 * size : 3 * size], expected, rtol=1e-5)


@pytest.mark.parametrize("text", [None, "", "   ", "1984", "!?", "12:51 ☆"])
def test_text_without_a_letter_is_missing_text(reader: PlusReader, text: str | None) -> None:
    reading = reader(Metadata(title=text))
    assert not reading.informative
    assert not reading.vector.any()


def test_digits_beside_letters_are_read(reader: PlusReader) -> None:
    with_year = reader(Metadata(artist="Prince", title="1999"))
    assert with_year.informative
    assert not np.array_equal(with_year.vector, reader(Metadata(artist="Prince")).vector)


@settings(deadline=None, max_examples=60)
@given(*[st.one_of(st.none(), st.text(max_size=80))] * 3)
def test_any_text_is_read_the_same_way_twice(
    reader: PlusReader, artist: str | None, album: str | None, title: str | None
) -> None:
    metadata = Metadata(artist, album, title)
    first, second = reader(metadata), reader(metadata)
    assert np.isfinite(first.vector).all()
    assert first.vector.dtype == np.float32
    np.testing.assert_array_equal(first.vector, second.vector)


def test_lone_surrogates_do_no_harm(reader: PlusReader) -> None:
    assert reader(Metadata(title="caf\ud83d")).informative


def test_many_threads_read_what_one_reads(reader: PlusReader) -> None:
    songs = [Metadata(artist=f"artist {i}", title=f"chanson numéro {i % 7}") for i in range(200)]
    alone = [reader(song).vector for song in songs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda song: reader(song).vector, songs))
    np.testing.assert_array_equal(alone, together)


def test_long_fields_are_cut(reader: PlusReader, read_config: PlusReadConfig) -> None:
    long = "la mer " * 300
    cut = " ".join(long.split())[: read_config.max_characters]
    np.testing.assert_array_equal(reader(Metadata(title=long)).vector, reader(Metadata(title=cut)).vector)


def test_training_counts_what_serving_counts(reader: PlusReader, read_config: PlusReadConfig) -> None:
    read = FieldReader(read_config)
    songs = [Metadata("Nachtzug", None, "Über den Dächern"), Metadata(None, "Zimowe noce", "Śpię")]
    rows = [read([song.artist, song.album, song.title]) for song in songs]
    columns = [
        np.array([[getattr(field, name) for field in row] for row in rows], np.float32)
        for name in ("evidence", "n_known", "scripts", "given")
    ]
    together = read.counted_rows(*columns)
    assert together.shape == (2, read_config.n_counted)
    for song, counted in zip(songs, together, strict=True):
        np.testing.assert_array_equal(reader(song).vector[3 * read_config.embedding_size :], counted)


def test_fields_read_together_are_fields_read_alone(read_config: PlusReadConfig) -> None:
    read = FieldReader(read_config)
    texts = ["Nachtzug", "", "Über den Dächern", "a", None, "夢 4", "x" * 300]
    for text, together in zip(texts, read(texts), strict=True):
        alone = read([text])[0]
        assert (alone.n_known, alone.given, alone.has_letters) == (together.n_known, together.given, together.has_letters)
        np.testing.assert_array_equal(alone.buckets, together.buckets)
        np.testing.assert_array_equal(alone.evidence, together.evidence)
        np.testing.assert_array_equal(alone.scripts, together.scripts)


def test_a_table_of_another_size_is_refused(read_config: PlusReadConfig, table: np.ndarray) -> None:
    with pytest.raises(ReleaseError, match=r"table of n-grams should be \(256, 4\)"):
        PlusReader(read_config, table[:, :3])


def test_other_languages_are_refused(read_config: PlusReadConfig, table: np.ndarray) -> None:
    with pytest.raises(ReleaseError, match="text languages"):
        PlusReader(read_config.model_copy(update={"languages": ["en", "fr"]}), table)
