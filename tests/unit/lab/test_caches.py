"""What is computed once for a catalogue: kept, mended when cut off, made anew when a file has changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from app.families.contract import Target
from app.lab.caches import Decoder, Waveforms
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


def test_a_cache_that_was_cut_off_is_mended(rows: list[Row], tmp_path: Path) -> None:
    first = Waveforms(tmp_path)
    first.add(rows[:2], DECODE)
    expected = first.read(rows[1])
    with (tmp_path / "samples.i16").open("ab") as file:
        file.write(b"\x01" * 777)  # an odd number of bytes
    with (tmp_path / "index.jsonl").open("ab") as file:
        file.write(b'{"path": "/cut o')
    mended = Waveforms(tmp_path)
    mended.add(rows, DECODE)
    assert np.array_equal(mended.read(rows[1]), expected)
    assert rows[3].path is not None
    np.testing.assert_allclose(mended.read(rows[3]), DECODE(rows[3].path), atol=1e-4)
    assert mended.fingerprint(rows) != mended.fingerprint(rows[:3])
    lengths = [json.loads(line)["length"] for line in (tmp_path / "index.jsonl").read_text().splitlines()]
    assert lengths == [mended.length(row) for row in rows]


def test_features_are_the_listeners_and_are_kept(rows: list[Row], tmp_path: Path) -> None:
    model = tiny_model(listen=LISTEN.model_dump())
    assert model.audio is not None
    folder = cache_folder(tmp_path / "cache", model.audio, model.manifest.sha256)
    extractor = FeatureExtractor(model.audio, Target("cpu", "fp32"), cache=folder)
    found = extractor.rows(rows, Progress())
    listen = model.audio.listener.prepare(Target("cpu", "fp32"))
    for row, features in zip(rows, found, strict=True):
        assert row.path is not None
        window = np.resize(DECODE(row.path), LISTEN.window_samples)
        with torch.inference_mode():
            np.testing.assert_allclose(features, listen(torch.from_numpy(window[None])).numpy(), atol=1e-4)
    kept = FeatureExtractor(model.audio, cache=folder)
    kept.file = lambda path: pytest.fail("listened again")  # type: ignore[method-assign]
    assert all(np.array_equal(a, b) for a, b in zip(kept.rows(rows, Progress()), found, strict=True))
    assert cache_folder(tmp_path, model.audio, "another") != cache_folder(tmp_path, model.audio, model.manifest.sha256)


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
