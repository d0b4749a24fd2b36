import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.domain import METADATA_FIELDS, FloatArray, Metadata
from app.errors import ReleaseError
from app.families.parts.names import clean
from app.families.parts.ngrams.config import NgramConfig
from app.families.parts.ngrams.fields import FieldReader
from app.families.parts.ngrams.loops import weigh_fields
from app.families.parts.ngrams.reader import SCALE, TABLE, NgramReader, packed

SONG = Metadata(artist="Les Enfants du Canal", album="Sous les ponts", title="J'attends l'été")
texts = st.one_of(st.none(), st.text(max_size=80))


def by_definition(config: NgramConfig, tensors: dict[str, Tensor], metadata: Metadata) -> FloatArray:
    """The posterior by torch, from the fields as training takes them apart."""
    fields = [FieldReader(config)(getattr(metadata, name)) for name in METADATA_FIELDS]
    views = np.zeros(8 * len(config.languages), np.float32)
    evidence = np.array([field.evidence for field in fields], np.float32)
    weigh_fields(evidence, np.array([field.n_known for field in fields], np.float32), views)
    given = [float(bool(getattr(metadata, name))) for name in METADATA_FIELDS]
    counted = torch.from_numpy(np.concatenate([views, *[field.scripts for field in fields], np.array(given, np.float32)]))
    logits = []
    for k in range(config.networks):
        own = tensors[TABLE][:, k * config.embedding_size : (k + 1) * config.embedding_size]
        sums = [own[field.buckets].sum(dim=0) / max(1, len(field.buckets)) ** 0.5 for field in fields]
        x = torch.cat([*sums, counted])
        for i in range(len(config.hidden_units) + 1):
            x = (x.relu() if i else x) @ tensors[f"layer{i}.weight"][k] + tensors[f"layer{i}.bias"][k]
        logits.append(x)
    return torch.stack(logits).mean(dim=0).softmax(dim=0).numpy()


@pytest.mark.parametrize("song", [SONG, Metadata(title="夢の中へ"), Metadata(artist="Ночь", title="99")])
def test_the_posterior_is_that_of_the_networks(
    reader: NgramReader, config: NgramConfig, tensors: dict[str, Tensor], song: Metadata
) -> None:
    np.testing.assert_allclose(reader(song).vector, by_definition(config, tensors, song), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("text", [None, "", "   ", "1984", "!?", "12:51 ☆"])
def test_text_without_a_letter_leaves_the_class_mix(reader: NgramReader, text: str | None) -> None:
    reading = reader(Metadata(title=text))
    assert not reading.informative
    np.testing.assert_array_equal(reading.vector, reader.class_mix)


def test_digits_beside_letters_are_read(reader: NgramReader) -> None:
    with_year = reader(Metadata(artist="Prince", title="1999"))
    assert with_year.informative
    assert not np.array_equal(with_year.vector, reader(Metadata(artist="Prince")).vector)


def test_fields_have_places_of_their_own(reader: NgramReader) -> None:
    assert not np.array_equal(reader(Metadata(title="La mer")).vector, reader(Metadata(album="La mer")).vector)


@settings(deadline=None, max_examples=60)
@given(texts, texts, texts)
def test_any_text_has_the_same_posterior_twice(
    reader: NgramReader, artist: str | None, album: str | None, title: str | None
) -> None:
    metadata = Metadata(artist, album, title)
    first, second = reader(metadata), reader(metadata)
    assert first.vector.dtype == np.float32
    assert first.vector.shape == (len(reader.config.class_mix),)
    assert first.vector.sum() == pytest.approx(1, abs=1e-5)
    assert first.informative == any(map(str.isalpha, unicodedata.normalize("NFKC", metadata.joined)))
    np.testing.assert_array_equal(first.vector, second.vector)


@pytest.mark.parametrize("written", ["  J'ATTENDS   l'été ", unicodedata.normalize("NFD", "J'attends l'été")])
def test_spaces_capitals_and_normal_forms_do_not_matter(reader: NgramReader, written: str) -> None:
    np.testing.assert_array_equal(reader(Metadata(title=written)).vector, reader(Metadata(title="j'attends l'été")).vector)


def test_many_threads_read_what_one_reads(reader: NgramReader) -> None:
    songs = [Metadata(artist=f"artist {i}", title=f"chanson numéro {i % 7}") for i in range(200)]
    alone = [reader(song).vector for song in songs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda song: reader(song).vector, songs))
    np.testing.assert_array_equal(alone, together)


def test_long_fields_are_cut_and_lone_surrogates_do_no_harm(reader: NgramReader, config: NgramConfig) -> None:
    long = "la mer " * 300
    cut = " ".join(long.split())[: config.max_characters]
    np.testing.assert_array_equal(reader(Metadata(title=long)).vector, reader(Metadata(title=cut)).vector)
    assert reader(Metadata(title="caf\ud83d")).informative


def test_a_table_in_eight_bits_answers_nearly_the_same(
    reader: NgramReader, config: NgramConfig, tensors: dict[str, Tensor]
) -> None:
    table = packed(tensors[TABLE])
    assert table[TABLE].dtype == torch.int8
    small = NgramReader(config, {**tensors, **table})
    np.testing.assert_allclose(small(SONG).vector, reader(SONG).vector, atol=0.05)
    with pytest.raises(ReleaseError, match=r"'table\.scale' should be \(256,\)"):
        NgramReader(config, {**tensors, **table, SCALE: table[SCALE][:3]})


def test_tensors_that_do_not_fit_are_refused(config: NgramConfig, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ReleaseError, match=r"'table' should be \(256, 8\)"):
        NgramReader(config, {**tensors, TABLE: tensors[TABLE][:, :3]})
    with pytest.raises(ReleaseError, match=r"'layer1\.bias' is missing"):
        NgramReader(config, {name: tensor for name, tensor in tensors.items() if name != "layer1.bias"})
    with pytest.raises(ReleaseError, match="NaN"):
        NgramReader(config, {**tensors, "layer0.bias": tensors["layer0.bias"] * torch.nan})
    with pytest.raises(ReleaseError, match="text languages"):
        NgramReader(config.model_copy(update={"languages": ["en", "fr"]}), tensors)


def test_a_class_mix_adds_up_to_one(config: NgramConfig) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        NgramConfig(class_mix={"en": 0.5, "fr": 0.6}, languages=config.languages)


@pytest.mark.parametrize(
    "written", ["J&#39;attends l&#39;été", "J'attends l'été (Official Video)", "J'attends l'\u200bété", "J'attends l'Ã©tÃ©"]
)
def test_cleaned_names_are_read_as_the_plain_ones(reader: NgramReader, written: str) -> None:
    assert np.array_equal(reader(clean(Metadata(title=written))).vector, reader(Metadata(title="J'attends l'été")).vector)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.builds(Metadata, texts, texts, texts), max_size=5))
def test_many_songs_read_together_are_read_as_each_alone(reader: NgramReader, songs: list[Metadata]) -> None:
    together = reader.read_many(songs)
    assert len(together) == len(songs)
    for many, one in zip(together, map(reader, songs), strict=True):
        assert many.informative == one.informative
        np.testing.assert_array_equal(many.vector, one.vector)
