"""`lrid train CATALOGUE --family lrid_voice`: a head of one's own on a release's ears and reader. All small."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save

from app.errors import ReleaseError
from app.families.lrid_voice.manifest import VoiceManifest
from app.families.store import load_model, read_manifest, read_weights
from app.lab.errors import CheckpointError, TrainingError
from app.lab.evaluation.answers import EvaluationSet
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.recipes import draft_of, recipe_of
from app.lab.training.recipes.ears import EarsRecipe
from app.lab.training.release import ReleaseConfig, make_release
from tests.ears import SMALL
from tests.releases import write_release
from tests.voices import CODES, write_voice
from tests.whisper_reference import random_checkpoint

RATE = SMALL.sample_rate_hz


def write_songs(folder: Path) -> Path:
    """Noise of two colours, and of a third that stands for nothing sung: 5 windows each, by artists of their own."""
    random = np.random.default_rng(0)
    lines = ["path\tartist\ttitle\tlabel\tsplit"]
    for i in range(24):
        code = ("en", "fr", "zxx", "de")[i % 4]  # de is no class: it counts as others
        t = np.arange(5 * RATE) / RATE
        pitch = {"en": 300, "fr": 900, "zxx": 2500, "de": 1500}[code]
        song = 0.2 * np.sin(2 * np.pi * pitch * t) * (1 + np.sin(t)) + 0.05 * random.normal(size=len(t))
        soundfile.write(folder / f"{i}.wav", song.astype(np.float32), RATE)
        lines.append(f"{i}.wav\tartist {i}\tsong {i}\t{code}\t{'valid' if i >= 16 else 'train'}")
    path = folder / "songs.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("voice")
    write_voice(folder / "store")
    head = {"inner_folds": 2, "draws": 1}
    return {
        "catalogue": write_songs(folder),
        "output": folder / "run",
        "store": folder / "store",
        "head": head,
        "folds": 2,
        "threads": 1,
    }


@pytest.fixture(scope="module")
def best(settings: dict[str, Any]) -> Path:
    return recipe_of("lrid_voice", settings).train(Progress())


def test_a_head_becomes_a_release_that_keeps_ears_and_reader(settings: dict[str, Any], best: Path, tmp_path: Path) -> None:
    draft, told = draft_of(best)
    rows = EvaluationSet(settings["catalogue"], ("valid",))
    config = ReleaseConfig(store=tmp_path, release="mine", calibration=rows, data="Noise.", settings=told)
    folder = make_release(draft, config)
    before, after = load_model(settings["store"] / "lrid_voice/1"), load_model(folder)
    assert after.manifest.training["start"] == "lrid_voice/1"
    assert after.manifest.training["songs"] == {"en": 4, "fr": 4, "zxx": 4, "others": 4}
    assert set(after.manifest.metrics) == {"audio_only", "both", "text_only"}
    assert isinstance(before.manifest, VoiceManifest)
    assert isinstance(after.manifest, VoiceManifest)
    assert after.manifest.identify != before.manifest.identify
    assert after.manifest.read == before.manifest.read
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "Nothing sung, audio only" in card
    assert "## Cross-validation over artists" in card
    assert "| audio, until sure | 12 |" in card


def test_features_are_listened_to_once(settings: dict[str, Any], best: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.lab.features.FeatureExtractor.file", lambda *_: pytest.fail("listened again"))
    with pytest.raises(TrainingError, match=r"best\.pt exists: fit it anew with --resume"):
        recipe_of("voice", settings).train(Progress())
    again = recipe_of("voice", settings | {"resume": True}).train(Progress())
    first, second = draft_of(best)[0], draft_of(again)[0]
    assert all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())


def test_a_start_that_is_no_voice_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    write_release(tmp_path)
    other = settings | {"output": tmp_path / "run"}
    with pytest.raises(TrainingError, match="start: lrid_net/1 is of family lrid_net, expected lrid_voice"):
        recipe_of("voice", other | {"store": tmp_path, "start": "lrid_net/1"}).train(Progress())
    with pytest.raises(ReleaseError, match="no release 'lrid_voice/9'"):
        recipe_of("voice", other | {"start": "lrid_voice/9"}).train(Progress())


def test_too_few_artists_are_refused(settings: dict[str, Any], best: Path, tmp_path: Path) -> None:
    given = settings | {"output": tmp_path, "cache": best.parent / "cache", "head": {"inner_folds": 7, "draws": 1}}
    with pytest.raises(TrainingError, match="songs of 12 artists or sources; a head needs 14"):
        recipe_of("voice", given).train(Progress())


def test_a_broken_checkpoint_is_refused_by_the_tensor(settings: dict[str, Any], tmp_path: Path) -> None:
    whisper = tmp_path / "model.safetensors"
    tensors = random_checkpoint()
    tensors["model.encoder.conv2.bias"][3] = float("nan")
    whisper.write_bytes(save(tensors))
    given = settings | {"output": tmp_path, "checkpoint": whisper}
    with pytest.raises(TrainingError, match="checkpoint and reader go together"):
        recipe_of("voice", given)
    with pytest.raises(ReleaseError, match=r"'model\.encoder\.conv2\.bias' holds NaN"):
        recipe_of("voice", given | {"reader": tmp_path / "best.pt"}).train(Progress())


def write_reader(folder: Path) -> Path:
    """best.pt of a reader that learnt next to nothing."""
    rows = [
        "artist\ttitle\tlanguage\tsplit",
        *(f"artist {i}\tsong {i}\t{('en', 'fr', 'de')[i % 3]}\ttrain" for i in range(6)),
    ]
    (folder / "names.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    labels = [{"code": code, "iso639_3": iso, "name": name} for code, (iso, name) in CODES.items()]
    given = {
        "catalogue": folder / "names.tsv", "output": folder / "reader", "labels": labels, "phrases": False,
        "made_share": 0.0, "epochs": 1,
        "class_mix": dict(zip(CODES, (0.5, 0.3, 0.2), strict=True)), "networks": 1, "buckets_log2": 8, "embedding_size": 4,
        "hidden_units": [8], "steps_per_epoch": 1, "batch_size": 4, "threads": 1,
    }  # fmt: skip
    return recipe_of("reader", given).train(Progress())


def test_kept_features_and_speech_make_a_release_from_a_checkpoint(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "model.safetensors").write_bytes(save(random_checkpoint(n_positions=500)))
    languages = ["en", "fr", "de", "zxx"] * 4
    lines = [f"{i},{language},(group),song,group {i},14" for i, language in enumerate(languages)]
    lines[0] = lines[0].replace("(group)", "A Singer")
    (tmp_path / "index.csv").write_text("\n".join(["id,language,artist,title,group,windows", *lines]), encoding="utf-8")
    np.savez(tmp_path / "windows.npz", hidden=random.normal(size=(16 * 14, 128)).astype(np.float16))
    speech = tmp_path / "speech"
    for speaker in ("anna", "ben"):
        (speech / speaker).mkdir(parents=True)
        soundfile.write(speech / speaker / "1.wav", 0.1 * random.normal(size=4 * RATE), RATE)
    recipe = recipe_of("lrid_voice", {
        "catalogue": tmp_path / "index.csv", "output": tmp_path / "run", "features": tmp_path, "speech": speech,
        "checkpoint": tmp_path / "model.safetensors", "reader": write_reader(tmp_path), "threads": 1, "folds": 2,
        "head": {"inner_folds": 2, "draws": 1},
    })  # fmt: skip
    draft, _ = draft_of(recipe.train(Progress()))
    assert recipe.measured_on is None
    assert draft.manifest.training["songs"] == {"en": 4, "fr": 4, "others": 4, "zxx": 4, "speech": 2}
    assert [name for name in draft.tensors if name.startswith("ears.ranges.")], "int8 has no ranges"
    folder = make_release(draft, ReleaseConfig(store=tmp_path / "store", release="1", calibration=None, data="Noise."))
    assert "Clips of speech answered `zxx`" in (folder / "CARD.md").read_text(encoding="utf-8")


def test_ears_learn_what_they_are_shown(settings: dict[str, Any], tmp_path: Path) -> None:
    """Random ears on three pitches; then a head is fitted to what they have become."""
    labels = [{"code": code, "iso639_3": iso, "name": name} for code, (iso, name) in CODES.items()]
    given = {
        "catalogue": settings["catalogue"], "output": tmp_path / "ears", "store": settings["store"], "labels": labels,
        "epochs": 3, "steps_per_epoch": 16, "batch_size": 4, "learning_rate": 5e-4, "warmup_steps": 0, "threads": 1,
        "windows": 3,
    }  # fmt: skip
    recipe = recipe_of("ears", given)
    assert isinstance(recipe, EarsRecipe)
    best = recipe.train(Progress())
    before, after = recipe.build(), recipe.build()
    checkpoint.load_weights(best, checkpoint.load(best), after)
    figures = [recipe.validate(network.eval()) for network in (before, after)]
    assert figures[1]["loss"] < 0.5 * figures[0]["loss"]
    assert figures[1]["accuracy"] > 0.8
    fixed = dict(before.whisper.decoder.named_parameters())
    assert all(torch.equal(tensor, fixed[name]) for name, tensor in after.whisper.decoder.named_parameters())
    with pytest.raises(CheckpointError, match="--set ears="):
        draft_of(best)
    draft, _ = draft_of(recipe_of("voice", settings | {"output": tmp_path / "run", "ears": best}).train(Progress()))
    assert draft.manifest.training["start"] == "lrid_voice/1, trained further"
    folder = settings["store"] / "lrid_voice/1"
    stored = read_weights(folder, read_manifest(folder))
    changed = {name for name, tensor in stored.items() if not torch.equal(tensor, draft.tensors[name])}
    assert "ears.whisper.encoder.conv1.weight" in changed
    assert "ears.whisper.decoder.start" not in changed
