"""A family that is written in one file, as app/families/README.md says, is served with no change elsewhere."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.audio.pool import DecodePool
from app.domain import AUDIO, TEXT, Metadata, Reading, Track
from app.errors import ReleaseError
from app.families import contract
from app.families.contract import VectorField, further_fields, mode_name
from app.families.store import GOLDEN, MANIFEST, families, load_model, read_manifest
from app.main import build_identifier, build_pool
from app.serving.identification import Identification
from app.serving.loading import load_release
from app.serving.metrics import Metrics
from app.serving.options import Options
from app.settings import Settings
from tests import audio_samples
from tests.toy_family import FAMILY, LISTENERS, LettersBranch, write_toy_release

KNOWN = families() | {"toy": FAMILY}
EVERYTHING = frozenset({AUDIO, TEXT, LISTENERS})
TITLE = Metadata(title="La vie en rose")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    write_toy_release(store)
    return store


@pytest.fixture(scope="module")
def song() -> bytes:
    """9 s of 44.1 kHz: five windows."""
    return audio_samples.wav(audio_samples.song(9.0))


def settings_for(store: Path, **changes: Any) -> Settings:
    return Settings(model_store=store, model="toy/1", device="cpu", torch_threads=1, decode_workers=1, **changes)


def identify(store: Path, *tracks: Track, **options: Any) -> list[Identification]:
    """By decoder, batcher, engine and identifier, all tracks at once."""
    settings = settings_for(store)

    async def scenario(pool: DecodePool) -> list[Identification]:
        identifier = await build_identifier(settings, pool, Metrics(), settings.model, KNOWN)
        deadline = asyncio.get_running_loop().time() + 60
        try:
            return await asyncio.gather(*(identifier.identify(track, Options(**options), deadline) for track in tracks))
        finally:
            await identifier.stop()

    pool = build_pool(settings)
    pool.start()
    try:
        return asyncio.run(scenario(pool))
    finally:
        pool.close()


def test_a_family_is_known_by_the_mapping_that_is_passed(store: Path) -> None:
    folder = store / "toy" / "1"
    assert load_model(folder, KNOWN).manifest == read_manifest(folder, KNOWN)
    with pytest.raises(ReleaseError, match="unknown family 'toy'; known: lrid_net"):
        load_model(folder)


def test_it_loads_and_replays_its_golden_file(store: Path) -> None:
    loaded = load_release(settings_for(store), "toy/1", KNOWN)
    assert loaded.engine is not None
    assert loaded.engine.target.precision == "fp32"  # its listener has no other
    assert further_fields(loaded.model) == {LISTENERS: VectorField(4)}


def test_what_it_cannot_reproduce_is_refused(tmp_path: Path) -> None:
    folder = write_toy_release(tmp_path)
    golden = json.loads((folder / GOLDEN).read_text())
    golden["cases"][3]["further"][LISTENERS].reverse()
    (folder / GOLDEN).write_text(json.dumps(golden))
    with pytest.raises(ReleaseError, match="case 3 differs"):
        load_release(settings_for(tmp_path), "toy/1", KNOWN)


def test_unknown_keys_and_wrong_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_toy_release(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"mood": "blue"}))
    with pytest.raises(ReleaseError, match="mood"):
        load_model(folder, KNOWN)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"regions": 5}))
    with pytest.raises(ReleaseError, match="'listeners' should be"):
        load_model(folder, KNOWN)


def test_windows_are_the_familys(store: Path, song: bytes) -> None:
    (found,) = identify(store, Track(song, Metadata()), windows=3)
    assert found.recording is not None
    assert found.recording.seconds == pytest.approx(9.0, abs=0.01)
    assert [round(span.seconds, 3) for span in found.windows] == [2.0, 2.0, 2.0]
    middles = [span.start_seconds + 1 for span in found.windows]
    assert middles == pytest.approx([4.5, 2.25, 6.75], abs=0.1)  # at .5, .25 and .75 of the track


def test_it_listens_until_sure_and_alike_beside_others(tmp_path: Path, song: bytes) -> None:
    write_toy_release(tmp_path / "easy", sure=0.0)
    write_toy_release(tmp_path / "hard", sure=1.0)
    track = Track(song, Metadata())
    (easy,), (hard,) = identify(tmp_path / "easy", track), identify(tmp_path / "hard", track)
    assert (len(easy.windows), len(hard.windows)) == (1, 3)
    others = [Track(song, TITLE), track, Track(None, TITLE), track]
    for beside in identify(tmp_path / "hard", *others)[1::2]:
        np.testing.assert_array_equal(beside.scores.probabilities, hard.scores.probabilities)


def test_a_branch_that_holds_up_the_event_loop_is_named_in_the_log(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LettersBranch.read

    def slow(self: LettersBranch, track: Track) -> Reading | None:
        stops_at = time.thread_time() + 0.05
        while time.thread_time() < stops_at:
            pass
        return read(self, track)

    with caplog.at_level(logging.WARNING, "lrid.loading"):
        load_release(settings_for(store), "toy/1", KNOWN)
        assert "event loop" not in caplog.text
        monkeypatch.setattr(LettersBranch, "read", slow)
        load_release(settings_for(store), "toy/1", KNOWN)
    assert "ms on the event loop, other requests wait" in caplog.text


def test_names_of_modes() -> None:
    names = [mode_name(frozenset(mode)) for mode in ({AUDIO}, {TEXT}, {AUDIO, TEXT}, {LISTENERS}, {AUDIO, LISTENERS})]
    assert names == ["audio_only", "text_only", "both", "listeners_only", "audio+listeners"]
    assert mode_name(EVERYTHING) == "audio+listeners+text"


def test_the_page_explains_every_member_of_the_contract() -> None:
    page = (Path(contract.__file__).parent / "README.md").read_text()
    for protocol in (contract.Model, contract.InputBranch, contract.Listener, contract.AudioBranch):
        members = {name for name in (*vars(protocol), *protocol.__annotations__) if not name.startswith("_")}
        assert [name for name in sorted(members) if f"`{name}" not in page] == []
