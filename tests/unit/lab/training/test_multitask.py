"""The recipe `multitask`: what is cut out of songs, the joint loss, the measures of the paper, and bad catalogues."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from app.audio.spec import WindowRequest
from app.domain import Metadata
from app.families.multitask.manifest import SegmentConfig
from app.lab.corpus.catalogue import Row
from app.lab.corpus.made.multitask import make
from app.lab.corpus.made.sounds import write_sound
from app.lab.corpus.tables import read_table, write_table
from app.lab.errors import CorpusError
from app.lab.progress import Progress
from app.lab.training.recipes.multitask import MultitaskConfig, MultitaskRecipe, TaskFigures, areas, table
from app.lab.training.recipes.multitask_data import Segments, starts
from tests.corpora import edited
from tests.recipes import by_heart

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 artists in 4 languages, with 3 songs of 3 s each."""
    return make(tmp_path_factory.mktemp("made"), 0, artists=2, songs=3, seconds=3.0)


def recipe(catalogue: Path, output: Path, **changes: Any) -> MultitaskRecipe:
    config = MultitaskConfig.model_validate({"catalogue": catalogue, "output": output, "threads": 1, **changes})
    prepared = MultitaskRecipe(config)
    prepared.prepare(Progress())
    return prepared


def test_the_defaults_are_the_papers() -> None:
    config = MultitaskConfig(catalogue=Path("songs.csv"))
    assert (config.batch_size, config.learning_rate, config.alpha, config.tasks) == (32, 1e-3, None, "both")
    assert (config.listen.segment_seconds, config.listen.pieces, config.listen.piece_seconds) == (3.0, 2, 60.0)
    assert config.blocks.channels == (32, 64, 128, 64, 32)


def test_segments_come_from_two_pieces(tmp_path: Path) -> None:
    """The level tells where in a song of 36 s a segment was: pieces of 6 s around 12 s and 24 s."""
    levels = 0.1 + np.repeat(np.arange(36), RATE_HZ) / 100
    write_sound(tmp_path / "levels.wav", levels.astype(np.float32))
    listen = SegmentConfig(piece_seconds=6.0)
    write_sound(tmp_path / "short.wav", np.full(4000, 0.5, np.float32))
    rows = [Row(name, tmp_path / f"{name}.wav", Metadata(), 0, "train", "") for name in ("levels", "short")]
    request = WindowRequest(listen.piece, listen.pieces)
    songs = Segments.decoded(rows, request, listen.window, tmp_path / "cache", Progress(), classes={})
    *segments, short = songs.windows(songs.places)
    seconds = [round(100 * (float(segment[RATE_HZ // 2]) - 0.1)) for segment in segments]
    assert (sorted(seconds), {len(segment) for segment in segments}) == ([9, 12, 21, 24], {48_000})
    assert (short.sum(), len(short)) == (pytest.approx(2000, abs=0.1), 48_000)
    assert len(starts(2 * 60 * RATE_HZ, SegmentConfig().segment_samples)) == 40  # of a whole song


def test_the_loss_is_the_papers(songs: Path, tmp_path: Path) -> None:
    both = recipe(songs, tmp_path)
    assert both.alpha == 8 / 4
    network, batch = both.build().eval(), np.arange(4)
    losses = {
        task: recipe(songs, tmp_path, tasks=task)._loss(own, both.songs, batch).item()
        for task, own in both._by_task(network(both._heard(both.songs, batch))).items()
    }
    joint = both.loss(network, batch, np.random.default_rng(0)).item()
    assert joint == pytest.approx(losses["artist"] + 2 * losses["language"], rel=1e-5)


def test_a_handful_is_learnt_by_heart(songs: Path, tmp_path: Path) -> None:
    first, last = by_heart(recipe(songs, tmp_path), np.arange(4), 17)
    assert last < first / 3


def test_every_segment_once_per_epoch(songs: Path, tmp_path: Path) -> None:
    both = recipe(songs, tmp_path, batch_size=4)
    epochs = [np.concatenate(list(both.batches(epoch))) for epoch in (0, 0, 1)]
    assert sorted(epochs[0]) == list(range(8))
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], epochs[2])


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ({"artist": "Somebody Else"}, r"line 3: artist 'somebody else' is in split valid.*`lrid corpus split --column"),
        ({"artist": ""}, "line 3: artist '' is in split valid"),
        ({"language": "sw"}, "line 3: language 'sw' is in split valid, and none of the 4 that are learnt"),
        ({"path": "audio/en-1-1.wav"}, "line 3: the same track as line 2, in split valid and train"),
        ({"path": "audio/none.wav"}, "line 3: .*none.wav cannot be opened"),
        ({"split": "later"}, "line 3: split is 'later'"),
    ],
)
def test_bad_rows_are_named(songs: Path, tmp_path: Path, cells: dict[str, str], what: str) -> None:
    with pytest.raises(CorpusError, match=what):
        recipe(edited(songs, 1, **cells), tmp_path)


def test_the_fingerprint_is_of_rows_and_audio(songs: Path, tmp_path: Path) -> None:
    before = recipe(songs, tmp_path).fingerprint()
    cells = next(iter(read_table(songs).records.values()))
    elsewhere = edited(songs, 0, path=str(songs.parent / cells["path"]))
    assert recipe(elsewhere, tmp_path).fingerprint() == before
    assert recipe(edited(songs, 0, language="de" if cells["language"] != "de" else "fr"), tmp_path).fingerprint() != before


def test_catalogues_that_cannot_be_learnt(songs: Path, tmp_path: Path) -> None:
    write_table(one := songs.with_name("one.csv"), ["path", "artist", "language", "split"], [
        {"path": "audio/en-1-1.wav", "artist": "A", "language": "en", "split": "train"},
        {"path": "audio/en-1-2.wav", "artist": "A", "language": "en", "split": "valid"},
    ])  # fmt: skip
    with pytest.raises(CorpusError, match="column 'language' names 1 in split train"):
        recipe(one, tmp_path)
    with pytest.raises(CorpusError, match="column 'artist' names 1 in split train"):
        recipe(one, tmp_path, tasks="artist")
    write_sound(songs.parent / "silent.wav", np.zeros(RATE_HZ * 4, np.float32))
    with pytest.raises(CorpusError, match=r"line 2: .*silent"):
        recipe(edited(songs, 0, path="silent.wav"), tmp_path)


def test_areas_are_scikit_learns_mean_over_the_classes_that_occur() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)  # of four
    probabilities = rng.dirichlet(np.ones(4), 40).astype(np.float32)
    found = areas(labels, probabilities)
    truth = np.eye(4)[labels]
    one_by_one = [roc_auc_score(truth[:, i], probabilities[:, i]) for i in range(3)]
    assert found["roc"] == pytest.approx(100 * np.mean(one_by_one))
    one_by_one = [average_precision_score(truth[:, i], probabilities[:, i]) for i in range(3)]
    assert found["pr"] == pytest.approx(100 * np.mean(one_by_one))
    perfect = areas(labels, np.eye(4, dtype=np.float32)[labels])
    assert perfect == {"roc": 100, "pr": 100}
    with pytest.raises(CorpusError, match="of one class"):
        areas(np.zeros(4, np.int64), probabilities[:4])


def test_differences_stand_beside_the_baseline_of_the_same_task() -> None:
    def line(tasks: int, roc: float) -> TaskFigures:
        area = {"roc": roc, "pr": 40.0}
        return TaskFigures(f"multitask/{tasks}", tasks, "artist", 68, 34, 136, area, area, 0.5)

    lines = table([line(2, 74.88), line(1, 70.45)]).splitlines()
    assert lines[2].startswith("| Baseline | artist | multitask/1 | 68 | 34 | 136 | 70.45 | 40.00 |")
    assert "| Multi-task I | artist | multitask/2 | 68 | 34 | 136 | 74.88 (+4.43) | 40.00 (+0.00) |" in lines[3]
    assert "| 74.88 | 40.00 |" in table([line(2, 74.88)])  # without a baseline


def test_windows_of_a_request_lie_in_the_middle_of_a_song() -> None:
    window = WindowRequest(SegmentConfig().window, 16).spec
    assert len(window.positions) == 16
    assert 0.2 < min(window.positions) < max(window.positions) < 0.8
