"""A release that is not what it says is refused by name: the server answers, but is never ready."""

import contextlib
import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load, save

from app.families.store import GOLDEN, MANIFEST, WEIGHTS
from tests.releases import edit_manifest, replace_weights
from tests.service.live import LiveServer, wait_until
from tests.service.problems import check_problem


def wrong_golden(folder: Path) -> None:
    golden = json.loads((folder / GOLDEN).read_text())
    golden["cases"][0]["probabilities"].reverse()
    (folder / GOLDEN).write_text(json.dumps(golden))


def nan_weights(folder: Path) -> None:
    weights = load((folder / WEIGHTS).read_bytes())
    weights["h.1.bias"][3] = np.nan
    replace_weights(folder, save(weights))


def other_weights(folder: Path) -> None:
    """Every tensor is fine and fits, but they are not the ones of golden.json."""
    weights = load((folder / WEIGHTS).read_bytes())
    weights["f.conv1.weight"].neg_()
    replace_weights(folder, save(weights))


def missing_tensor(folder: Path) -> None:
    weights = load((folder / WEIGHTS).read_bytes())
    del weights["h.1.bias"]
    replace_weights(folder, save(weights))


def flipped_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)


class Bomb:
    """Unpickling it leaves a trace."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("unpickled"),)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "wrong golden": (wrong_golden, r"golden\.json: case 0 differs by 0\.\d+ in fp32"),
    "no golden": (lambda folder: (folder / GOLDEN).unlink(), r"golden\.json cannot be used"),
    "other weights": (other_weights, r"golden\.json: case 0 differs by 0\.\d+"),
    "flipped bit": (flipped_bit, r"weights\.safetensors: sha256 is \w{12}…, the manifest says"),
    "NaN weights": (nan_weights, r"weights\.safetensors: tensor 'h\.1\.bias' holds NaN"),
    "missing tensor": (missing_tensor, r"weights\.safetensors: 1 tensors do not fit the manifest; 'h\.1\.bias'"),
    "pickled weights": (
        lambda folder: replace_weights(folder, pickle.dumps(Bomb())),
        r"weights\.safetensors is not a safetensors file",
    ),
    "unknown key": (
        lambda folder: edit_manifest(folder, lambda fields: fields["listen"].update(hop_sise=128)),
        r"manifest\.json is refused: .*listen\.hop_sise",
    ),
    "no JSON": (lambda folder: (folder / MANIFEST).write_text("{"), r"manifest\.json cannot be read"),
    "another family": (
        lambda folder: edit_manifest(folder, lambda fields: fields.update(family="whisper")),
        r"manifest\.json: unknown family 'whisper'",
    ),
    "another name": (
        lambda folder: edit_manifest(folder, lambda fields: fields.update(release="2")),
        r"manifest\.json says lrid_net/2, its folder says otherwise",
    ),
    "labels that do not match": (
        lambda folder: edit_manifest(folder, lambda fields: fields["labels"].pop()),
        r"weights\.safetensors: \d tensors do not fit the manifest; 'h\.1\.",
    ),
    "a label twice": (
        lambda folder: edit_manifest(folder, lambda fields: fields["labels"].append(fields["labels"][0])),
        r"manifest\.json is refused: .*labels: codes must be distinct",
    ),
    "text languages in another order": (
        lambda folder: edit_manifest(folder, lambda fields: fields["read"]["languages"].reverse()),
        r"text languages should be langdetect's",
    ),
}
AT_START = ("wrong golden", "flipped bit", "NaN weights", "pickled weights", "unknown key")  # the others: beside a good one


def broken_copy(good: Path, store: Path, name: str) -> Path:
    """A store whose only release is broken in the named way."""
    shutil.copytree(good, store)
    BROKEN[name][0](store / "lrid_net" / "1")
    return store


@pytest.mark.parametrize("name", BROKEN)
def test_refused_by_name(tiny_store: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.errors import ReleaseError
    from app.serving.loading import load_release
    from app.settings import Settings

    store = broken_copy(tiny_store, tmp_path / "store", name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReleaseError) as refused:
        load_release(Settings(model_store=store, device="cpu", precision="fp32", engine="torch"), "lrid_net/1")
    assert re.search(BROKEN[name][1], refused.value.detail, re.DOTALL)
    assert not Path("unpickled").exists()


@pytest.fixture(scope="module")
def servers(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LiveServer]]:
    """All at once: they load beside each other."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name in AT_START:
            folder = tmp_path_factory.mktemp("refused")
            store = broken_copy(tiny_store, folder / "store", name)
            started[name] = stack.enter_context(LiveServer(folder, model_store=store))
        folder = tmp_path_factory.mktemp("traversal")
        traversal: dict[str, Any] = {"model_store": tiny_store / "lrid_net", "model": "../lrid_net/1"}
        started["path traversal"] = stack.enter_context(LiveServer(folder, **traversal))
        yield started


@pytest.mark.parametrize("name", [*AT_START, "path traversal"])
def test_never_ready(servers: dict[str, LiveServer], name: str) -> None:
    live = servers[name]
    wait_until(lambda: live.ready().json()["status"] == "failed")
    reason = BROKEN[name][1] if name in BROKEN else r"a release is named family/release.*\.\./lrid_net/1"
    body = live.ready().json()
    assert live.ready().status_code == live.client.get("/health/startup").status_code == 503
    assert (body["ready"], body["model"]) == (False, None)
    assert re.search(reason, body["reason"], re.DOTALL)
    assert live.client.get("/health/live").status_code == 200
    check_problem(live.identify(json={"title": "Bonjour"}), 503, "not_ready")
    assert live.metric("lrid_ready") == 0
    assert not (live.log_path.parent / "unpickled").exists()
    (error,) = [line for line in live.log_lines() if line["level"] == "error"]
    assert error["message"].startswith("the release cannot be served")
    assert "exception" not in error
    live.terminate()
    assert live.exit_code() == 0
