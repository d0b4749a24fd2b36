"""The recipe `tagging`, from made clips to a release, and to its answers."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app.cli.main import app
from app.families.contract import Label
from app.families.store import load_model, read_manifest
from app.families.tagging.manifest import TaggingManifest
from app.http.schemas import TagsResponse
from app.lab.corpus.catalogue import read_catalogue
from app.lab.corpus.made.tagging import SPELLINGS, make
from app.lab.errors import CorpusError
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.recipes import draft_of, recipe_of
from app.lab.training.recipes.tagging import TaggingConfig, TaggingRecipe
from tests.service.live import PATIENCE_SECONDS, LiveServer

SECONDS = 1.0
SETTINGS: dict[str, Any] = {
    "audio": {"window_samples": round(16_000 * SECONDS), "most_windows": 2},
    "network": {"kind": "mel_cnn", "mel": {"fft_size": 1024, "hop_size": 512, "mel_bands": 24}, "channels": [8, 8]},
    "n_tags": 6,
    "epochs": 4,
    "batch_size": 8,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"), 0, rounds=6, seconds=SECONDS)


@pytest.fixture(scope="module")
def trained(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SETTINGS | {"catalogue": songs, "output": tmp_path_factory.mktemp("run")}
    return recipe_of("tagging", settings).train(Progress())


@pytest.fixture(scope="module")
def store(trained: Path, songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the release `tagging/1`."""
    store = tmp_path_factory.mktemp("store")
    command = ["releases", "make", str(trained), "1", "--data", "Made clips.", "--calibration", str(songs)]
    done = CliRunner().invoke(app, [*command, "--store", str(store)])
    assert done.exit_code == 0, done.output
    return store


def recipe(songs: Path, output: Path, **changes: Any) -> TaggingRecipe:
    return TaggingRecipe(TaggingConfig.model_validate(SETTINGS | {"catalogue": songs, "output": output} | changes))


def test_the_paper_s_settings_are_the_defaults() -> None:
    config = TaggingConfig(catalogue=Path("songs.csv"))
    assert (config.learning_rate, config.momentum, config.n_tags) == (0.01, 0.9, 50)
    assert isinstance(TaggingRecipe(config).optimiser(torch.nn.Linear(1, 1)), torch.optim.SGD)


def test_both_decays_are_those_of_the_equations(tmp_path: Path) -> None:
    decaying = recipe(tmp_path / "none.csv", tmp_path, local_decay=0.01, global_decay=0.5)
    rate = 1.0
    for step in range(5):
        assert decaying.share_in_epoch(step) == pytest.approx(rate)
        rate /= 1 + 0.01 * (step + 1)  # equation 1, after each batch
    assert [decaying.share_after_stop(n) for n in range(3)] == [0.5, 0.25, 0.125]  # equation 2


def test_tags_are_the_most_frequent_of_the_rows_to_train_on(trained: Path, songs: Path) -> None:
    facts = checkpoint.load(trained)["facts"]
    codes = [tag["code"] for tag in facts["tags"]]
    assert len(codes) == 6
    trained_on = [row for row in read_catalogue(songs, None) if row.split == "train"]
    assert facts["rows"] == {"audio": len(trained_on)}
    counts = list(facts["positives"].values())
    assert counts == sorted(counts, reverse=True)
    assert len(facts["thresholds"]) == 6


def test_every_row_is_drawn_once_an_epoch_and_resuming_gives_the_same_weights(songs: Path, tmp_path: Path) -> None:
    one = recipe(songs, tmp_path / "one", epochs=2)
    one.train(Progress())
    drawn = np.concatenate(list(one.batches(0)))
    assert len(set(drawn.tolist())) == len(drawn) == len(one.songs.rows) // 8 * 8
    recipe(songs, tmp_path / "two", epochs=1).train(Progress())
    recipe(songs, tmp_path / "two", epochs=2, resume=True).train(Progress())
    first, second = (checkpoint.load(tmp_path / name / "last.pt") for name in ("one", "two"))
    assert all(torch.equal(tensor, second["network"][name]) for name, tensor in first["network"].items())


def test_bf16_gives_nearly_the_loss_of_fp32(songs: Path, tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        one = recipe(songs, tmp_path, precision=precision)
        one.prepare(Progress())
        torch.manual_seed(0)
        loss = one.loss(one.build(), np.arange(8), np.random.default_rng(0))
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_tag_without_an_example_is_named(songs: Path, tmp_path: Path) -> None:
    loud, oboe = Label(code="loud", name="loud"), Label(code="oboe", name="oboe")
    with pytest.raises(CorpusError, match=r"no positive example of oboe in split train \(72 rows\): add such rows"):
        recipe(songs, tmp_path, labels=(loud, oboe)).prepare(Progress())
    everywhere = songs.with_name("everywhere.csv")
    text = songs.read_text(encoding="utf-8").replace(",train,", ";x,train,").replace(",valid,", ";x,valid,")
    everywhere.write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match="no negative example of x in split train"):
        recipe(everywhere, tmp_path).prepare(Progress())


def test_a_catalogue_without_tags_is_named(songs: Path, tmp_path: Path) -> None:
    other = songs.with_name("other.csv")
    other.write_text(songs.read_text(encoding="utf-8").replace("title,tags,", "title,moods,", 1), encoding="utf-8")
    with pytest.raises(CorpusError, match="column 'tags' has 0 tags; two are needed at least"):
        recipe(other, tmp_path).prepare(Progress())


def test_a_checkpoint_becomes_a_release(store: Path, trained: Path) -> None:
    folder = store / "tagging" / "1"
    manifest = read_manifest(folder)
    assert isinstance(manifest, TaggingManifest)
    assert manifest.thresholds == pytest.approx(checkpoint.load(trained)["facts"]["thresholds"])
    assert all(0 < threshold < 1 for threshold in manifest.thresholds)
    assert set(manifest.metrics["audio_only"]["validation"]) == {"auc", "tpr", "fpr", "tags", "rows"}
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "| Mel Spectrogram - 2D CNN, this release |" in card
    assert "figures on them say nothing about music" in card
    assert load_model(folder).inputs == {}
    draft, settings = draft_of(trained)
    assert draft.calibrated
    assert settings["momentum"] == 0.9


def test_evaluation_prints_table_4_and_every_tag(
    store: Path, songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(store))
    command = ["evaluate", "tagging/1", str(songs), "--split", "valid", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "| LSTM, the paper on MagnaTagATune | 0.870 | 0.800 | 0.203 |" in done.output
    said = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    stated = read_manifest(store / "tagging" / "1").metrics["audio_only"]["validation"]
    assert said["averages"] == pytest.approx(stated)  # the same rows, the same windows
    assert len(said["tags"]) == 6
    other = songs.with_name("moods.csv")
    other.write_text(songs.read_text(encoding="utf-8").replace("title,tags,", "title,moods,", 1), encoding="utf-8")
    done = CliRunner().invoke(app, [*command[:2], str(other), *command[3:]])
    assert isinstance(done.exception, CorpusError)
    assert "no column 'tags'" in str(done.exception)


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("server"), model_store=store, model="tagging/1", decode_workers=1) as live:
        yield live.wait_until_ready()


@pytest.fixture
def song(songs: Path) -> Path:
    path = read_catalogue(songs, None)[0].path
    assert path is not None
    return path


def test_a_server_answers_with_tags(server: LiveServer, store: Path, song: Path) -> None:
    audio = song.read_bytes()
    response = server.identify(files={"audio": audio}, data={"timeline": "true", "explain": "true", "title": "A"})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert TagsResponse.model_validate(answer, strict=True).model_dump(exclude_unset=True) == answer
    thresholds = dict(zip(*_codes_and_thresholds(store), strict=True))
    assert {tag["code"] for tag in answer["tags"]} == thresholds.keys() <= {one.replace(" ", "_") for one in SPELLINGS}
    assert all(tag["applies"] == (tag["probability"] >= thresholds[tag["code"]]) for tag in answer["tags"])
    assert answer["tags"] == sorted(answer["tags"], key=lambda tag: -tag["probability"])
    assert answer["timeline"][0]["tags"][0]["code"] == answer["tags"][0]["code"]
    assert answer["modalities"]["audio"]["used"]
    tensors = {"inputs": [{"name": "audio", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(audio).decode()]}]}
    outputs = server.client.post("/v2/models/tagging/infer", json=tensors).json()["outputs"]
    assert {one["name"]: one["data"] for one in outputs}["language"] == [answer["tags"][0]["code"]]
    refused = server.client.post("/detect-language", files={"audio_file": audio})
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    names = server.identify(json={"title": "A"})
    assert names.status_code == 422


def _codes_and_thresholds(store: Path) -> tuple[list[str], list[float]]:
    manifest = read_manifest(store / "tagging" / "1")
    assert isinstance(manifest, TaggingManifest)
    return [label.code for label in manifest.labels], manifest.thresholds


def test_the_page_says_which_tags_apply(server: LiveServer, song: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra `test`)")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("needs Debian's package chromium")
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]).new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(str(server.client.base_url))
        page.locator("#file").set_input_files(song)
        page.get_by_role("button", name="Identify", exact=True).click()
        page.wait_for_selector("#answer")
        text = page.inner_text("main")
    found = server.identify(files={"audio": song.read_bytes()}).json()["tags"]
    applying = [tag["name"] for tag in found if tag["applies"]]
    assert ("What applies: " in text) == bool(applying)
    assert all(tag["name"] in text for tag in found[:3])
    assert errors == []


def test_the_command_line_shows_tags(store: Path, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRID_MODEL_STORE", str(store))
    monkeypatch.setenv("LRID_ENGINE", "torch")
    done = CliRunner().invoke(app, ["identify", str(song), "--model", "tagging/1", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "tags that apply: " in done.output
    codes = _codes_and_thresholds(store)[0]
    assert done.stdout.splitlines()[1].split("\t")[1] in codes
