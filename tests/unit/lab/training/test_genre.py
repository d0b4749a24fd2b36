"""The recipe `genre`: a handful by heart, modality dropout, words, and catalogues that cannot be learnt from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.domain import AUDIO, LYRICS
from app.lab.corpus.catalogue import Row, read_catalogue
from app.lab.corpus.made.genre import GENRES, make
from app.lab.corpus.tables import read_table, write_table
from app.lab.errors import CorpusError
from app.lab.progress import Progress
from app.lab.training.recipes.genre import GenreConfig, GenreRecipe
from tests.corpora import edited
from tests.recipes import by_heart

SMALL = {
    "see": {"channels": [8, 16], "window_seconds": 1.0, "mel_bands": 32},
    "read": {"most_words": 16, "embedding_size": 16, "hidden_units": 16},
    "batch_size": 8,
}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"), 0, songs=7, seconds=2.0)


def recipe(catalogue: Path, output: Path, **changes: Any) -> GenreRecipe:
    places = {"catalogue": catalogue, "output": output, "cache": catalogue.parent / "cache"}
    prepared = GenreRecipe(GenreConfig.model_validate(places | SMALL | changes))
    prepared.prepare(Progress())
    return prepared


def test_made_songs_lack_what_they_should(songs: Path, tmp_path: Path) -> None:
    both = recipe(songs, tmp_path)
    assert both.codes == sorted(GENRES)
    facts = both.facts()
    assert facts["rows"] == {"audio": 24, "lyrics": 24}  # of 30: one in six lacks its audio, one its lyrics
    assert set(both.vocabulary) & {"drum", "moon", "heart"}
    assert both.songs.crops(np.arange(30)).shape == (30, 16_000)
    assert sum(not window.any() for window in both.songs.crops(np.arange(30))) == 6


def train_rows(songs: Path) -> list[Row]:
    return [row for row in read_catalogue(songs, sorted(GENRES), column="genre") if row.split == "train"]


@pytest.mark.parametrize("kind", ["both", "audio", "lyrics"])
def test_a_handful_is_learnt_by_heart(songs: Path, tmp_path: Path, kind: str) -> None:
    chosen = recipe(songs, tmp_path, modalities=kind, dropout_rate=0.0, learning_rate=0.02)
    handful = np.array([i for i, row in enumerate(train_rows(songs)) if row.path and row.cells[LYRICS]])[:6]
    first, last = by_heart(chosen, handful, 26)
    assert last < first / 3


def test_dropout_takes_whole_modalities_away_in_training_alone(songs: Path, tmp_path: Path) -> None:
    both = recipe(songs, tmp_path, dropout_rate=0.9)
    torch.manual_seed(0)
    network, batch = both.build(), np.arange(8)
    seen: list[torch.Tensor] = []
    network.h.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    both.loss(network, batch, np.random.default_rng(0))
    network.eval()
    both._logits(network, both.songs, batch, lacking=AUDIO)
    both._logits(network, both.songs, batch)
    width = both.config.see.n_features
    dropped, without_audio, whole = seen
    assert (dropped == 0).all(dim=1).any()
    assert not without_audio[:, :width].any()
    assert without_audio[:, width:].any()
    assert whole[:, :width].any(dim=1).sum() > dropped[:, :width].any(dim=1).sum()
    assert recipe(songs, tmp_path, modalities="audio").build().dropout.rate == 0


def test_validation_tells_all_three_cases(songs: Path, tmp_path: Path) -> None:
    both = recipe(songs, tmp_path)
    found = both.validate(both.build().eval())
    assert set(found) == {"loss", "macro_f1", "accuracy", "accuracy_without_audio", "accuracy_without_lyrics"}
    alone = recipe(songs, tmp_path, modalities="lyrics")
    assert not alone.valid.crops(np.arange(6)).any()  # nothing is listened to
    assert set(alone.validate(alone.build().eval())) == {"loss", "macro_f1", "accuracy"}


def test_the_fingerprint_is_of_audio_and_lyrics(songs: Path, tmp_path: Path) -> None:
    before = recipe(songs, tmp_path).fingerprint()
    assert recipe(songs, tmp_path).fingerprint() == before
    assert recipe(edited(songs, 0, lyrics="other words"), tmp_path).fingerprint() != before


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ({"genre": ""}, "line 10: no label"),
        ({"path": "audio/none.wav"}, "line 10: .*none.wav cannot be opened"),
        ({"split": "later"}, "line 10: split is 'later'"),
        ({"path": "audio/march-6.wav"}, "line 47: the same track as line 10, in split valid and train"),
        ({"genre": "tango", "split": "valid"}, "genre 'tango' has no song in split train"),
        ({"lyrics": "la " * 5334}, "line 2: lyrics has 16002 characters, at most 16000 are accepted"),
    ],
)
def test_bad_rows_are_named(songs: Path, tmp_path: Path, cells: dict[str, str], what: str) -> None:
    with pytest.raises(CorpusError, match=what):
        recipe(edited(songs, 0, **cells), tmp_path)


def test_either_column_may_be_missing_and_then_is_not_learnt_from(songs: Path, tmp_path: Path) -> None:
    read = read_table(songs)
    without = {name: songs.with_name(f"no-{name}.csv") for name in ("path", "lyrics")}
    for name, place in without.items():
        rows = [record for record in read.records.values() if record["lyrics"] and record["path"]]
        write_table(place, ["genre", "split", *({"path", "lyrics"} - {name})], rows)
    assert recipe(without["path"], tmp_path, modalities="lyrics").n_examples == 18
    assert recipe(without["lyrics"], tmp_path, modalities="audio").n_examples == 18
    with pytest.raises(CorpusError, match="no song of split train has audio; add some, or set modalities=lyrics"):
        recipe(without["path"], tmp_path)
    with pytest.raises(CorpusError, match=r"lyrics of split train hold no word of 2 songs.* set modalities=audio"):
        recipe(without["lyrics"], tmp_path)


def test_a_catalogue_without_validation_rows(songs: Path, tmp_path: Path) -> None:
    read = read_table(songs)
    write_table(
        path := songs.with_name("train.csv"), read.columns, [r for r in read.records.values() if r["split"] == "train"]
    )
    with pytest.raises(CorpusError, match="audio or lyrics are needed in the splits train and valid"):
        recipe(path, tmp_path)
