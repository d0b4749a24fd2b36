"""What is computed once for a catalogue: kept, mended when cut off, made anew when a file has changed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app.audio.spec import WindowRequest
from app.domain import Metadata, Reading
from app.families.contract import Target
from app.lab.caches import MAX_WINDOWS, Decoder, Waveforms, text_vectors
from app.lab.corpus.catalogue import Row, read_catalogue
from app.lab.errors import CorpusError
from app.lab.features import FeatureExtractor, cache_folder
from app.lab.progress import Progress
from tests.corpora import LISTEN, write_corpus
from tests.releases import tiny_model

DECODE = Decoder(LISTEN.window)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return read_catalogue(write_corpus(tmp_path, train=2, valid=0), ["en", "fr", "ja"])[:4]


def test_what_was_cut_off_or_has_changed_is_made_anew(rows: list[Row], tmp_path: Path) -> None:
    first = Waveforms(tmp_path / "cache")
    first.add(rows[:2], DECODE)
    expected = first.read(rows[1])
    (tmp_path / "cache/cut-off.part").write_bytes(b"\x01" * 777)
    made: list[Path] = []

    def noted(path: Path) -> np.ndarray:
        made.append(path)
        return DECODE(path)

    again = Waveforms(tmp_path / "cache")
    again.add(rows, noted)
    assert made == [row.path for row in rows[2:]]
    assert np.array_equal(again.read(rows[1]), expected)
    assert rows[3].path is not None
    np.testing.assert_allclose(again.read(rows[3]), DECODE(rows[3].path), atol=1e-4)
    np.testing.assert_array_equal(again.read(rows[3], 100, 50), again.read(rows[3])[100:150])
    assert again.length(rows[3]) == len(DECODE(rows[3].path))
    before = again.fingerprint(rows)
    assert before != again.fingerprint(rows[:3])
    assert rows[0].path is not None
    rows[0].path.write_bytes(rows[3].path.read_bytes())
    again.add(rows, noted)
    assert made[2:] == [rows[0].path]
    assert again.fingerprint(rows) != before


def test_a_full_disk_is_told(rows: list[Row], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(CorpusError, match=r"cannot be written .*free some disk"):
        Waveforms(tmp_path / "cache").add(rows, DECODE)


def test_texts_are_read_once(tmp_path: Path) -> None:
    calls: list[str] = []

    def reader(metadata: Metadata) -> Reading:
        calls.append(metadata.joined)
        return Reading(np.full(3, len(metadata.joined), np.float32), informative=True)

    texts = [Metadata(title="one"), Metadata(), Metadata(title="three"), Metadata(title="one")]
    for _ in range(2):
        assert text_vectors(tmp_path / "x", texts, reader, "as it is")[:, 0].tolist() == [3, 0, 5, 3]
    assert calls == ["", "one", "three", "one"]
    text_vectors(tmp_path / "x", texts, reader, "another seed")
    assert len(calls) == 8


def test_features_are_the_listeners_and_are_kept(rows: list[Row], tmp_path: Path) -> None:
    model = tiny_model(listen=LISTEN.model_dump())
    assert model.audio is not None
    request = WindowRequest(model.audio.window, MAX_WINDOWS)  # a request to the server plans as many
    folder = tmp_path / "cache"
    extractor = FeatureExtractor(model.audio, Target("cpu", "fp32"), cache=folder, identity="first")
    found = extractor.rows(rows, Progress())
    listen = model.audio.listener.prepare(Target("cpu", "fp32"))
    for row, features in zip(rows, found, strict=True):
        assert row.path is not None
        window = np.resize(DECODE(row.path), LISTEN.window_samples)
        with torch.inference_mode():
            np.testing.assert_allclose(features, listen(torch.from_numpy(window[None])).numpy(), atol=1e-4)
    assert [each.name for each in folder.iterdir()] == [cache_folder(folder, request, "first").name]
    kept = FeatureExtractor(model.audio, cache=folder, identity="first")
    kept.file = lambda path: pytest.fail("listened again")  # type: ignore[method-assign]
    assert all(np.array_equal(a, b) for a, b in zip(kept.rows(rows, Progress()), found, strict=True))
    more = WindowRequest(request.spec, request.max_windows + 1)
    folders = {
        cache_folder(tmp_path, request, "first"),
        cache_folder(tmp_path, request, "other"),
        cache_folder(tmp_path, more, "first"),
    }
    assert len(folders) == 3


def test_silent_files_have_no_windows_and_broken_ones_are_named(rows: list[Row], tmp_path: Path) -> None:
    import soundfile

    model = tiny_model(listen=LISTEN.model_dump())
    assert model.audio is not None
    assert rows[0].path is not None
    assert rows[1].path is not None
    soundfile.write(rows[0].path, np.zeros(8000), 16_000)
    for cache in (None, tmp_path / "cache"):
        (features,) = FeatureExtractor(model.audio, cache=cache).rows(rows[:1], Progress())
        assert features.shape == (0, model.audio.listener.n_features)
    rows[1].path.write_bytes(b"no audio")
    with pytest.raises(CorpusError, match=r"line 3: .*train-fr-0\.wav cannot be decoded .*repair or drop the row"):
        FeatureExtractor(model.audio).rows(rows, Progress())
