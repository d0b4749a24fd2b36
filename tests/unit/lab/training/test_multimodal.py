"""`lrid train --recipe multimodal`: made songs, a network, its tables, and a release. All small."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.domain import AUDIO, Metadata, Scores, Track
from app.families.multimodal.model import CONSUMPTION, MultimodalModel
from app.families.store import load_model, read_weights
from app.families.tasks import View
from app.lab.corpus.catalogue import read_catalogue
from app.lab.corpus.made.sessions import session_embeddings
from app.lab.corpus.tables import read_table, write_table
from app.lab.errors import CheckpointError, CorpusError, TrainingError
from app.lab.evaluation.answers import EvaluationSet, answer, read_inputs
from app.lab.features import FeatureExtractor
from app.lab.progress import Progress
from app.lab.training import checkpoint
from app.lab.training.loop import State, _wait
from app.lab.training.recipes import draft_of
from app.lab.training.recipes.multimodal import MultimodalRecipe
from app.lab.training.recipes.multimodal_data import (
    NO_AUDIO,
    NO_CONSUMPTION,
    WHOLE,
    MultimodalConfig,
    consumption_of,
    learn_codebook,
    listened,
)
from app.lab.training.recipes.multimodal_tables import run_tables
from app.lab.training.release import verify
from tests.multimodal_release import CODES, small_recipe, small_settings
from tests.recipes import by_heart, publish

BOTH = f"{AUDIO}+{CONSUMPTION}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return small_settings(tmp_path_factory.mktemp("multimodal"))


@pytest.fixture(scope="module")
def prepared(settings: dict[str, Any]) -> MultimodalRecipe:
    recipe = small_recipe(settings)
    recipe.prepare(Progress())
    return recipe


def variant(prepared: MultimodalRecipe, settings: dict[str, Any], **changes: Any) -> MultimodalRecipe:
    """The same songs, other settings."""
    recipe = small_recipe(settings, **changes)
    recipe.songs, recipe.timbral = prepared.songs, prepared.timbral
    recipe.prepare(Progress())
    return recipe


@pytest.fixture(scope="module")
def best(prepared: MultimodalRecipe, settings: dict[str, Any]) -> Path:
    return variant(prepared, settings, output=settings["output"]).train(Progress())


@pytest.fixture(scope="module")
def release(best: Path, settings: dict[str, Any]) -> Path:
    valid = EvaluationSet(settings["catalogue"], ("valid",))
    return publish(best, settings["store"], calibration=valid)


def test_the_defaults_are_the_papers() -> None:
    config = MultimodalConfig(catalogue=Path("songs.csv"))
    assert (config.epochs, config.batch_size, config.learning_rate, config.weight_decay) == (50, 64, 1e-3, 1e-3)
    assert (config.schedule, config.variance, config.replica) == ("plateau", 0.95, "A")
    assert config.codes == ["de", "en", "es", "fr", "hi", "it", "ja", "pa", "ta", "te", "others"]


def test_adam_has_the_weight_decay(prepared: MultimodalRecipe) -> None:
    optimiser = prepared.optimiser(prepared.build())
    assert isinstance(optimiser, torch.optim.Adam)
    assert [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups] == [(1e-3, 1e-3)]


def test_the_rate_is_reduced_on_a_plateau() -> None:
    config = MultimodalConfig(catalogue=Path("songs.csv"), plateau_epochs=2)
    state, shares = State(), []
    for better in (True, False, False, False, True, False, False):
        _wait(state, config, better=better)
        shares.append(state.reduced)
    assert shares == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])
    _wait(steady := State(), config.model_copy(update={"schedule": "constant", "plateau_epochs": 1}), better=False)
    assert steady.reduced == 1


def test_songs_are_fanned_out_to_their_segments(prepared: MultimodalRecipe) -> None:
    songs = prepared.songs
    assert len(songs.labels) == 36
    n_segments = len(songs.owner)
    assert n_segments > 36
    assert {name: part.shape for name, part in songs.parts.items()} == {
        "vocals": (n_segments, 256), "timbral": (n_segments, 16), "consumption": (n_segments, 32),
    }  # fmt: skip
    assert (songs.seconds > 0.4).all()
    assert songs.parts["timbral"][:, 8:].sum(axis=1) == pytest.approx(np.ones(n_segments), abs=1e-3)  # of posteriors
    examples = prepared.examples("train")
    assert set(examples[:, 1]) == {WHOLE, NO_CONSUMPTION}
    assert len(examples) == 2 * len(songs.segments("train"))


def test_the_codebook_keeps_95_percent_of_the_variance_in_its_components() -> None:
    rng = np.random.default_rng(0)
    spectra = [(rng.normal(size=(50, 12)) * 0.8 ** np.arange(12) + song / 4).astype(np.float32) for song in range(6)]
    learnt = learn_codebook(spectra, 4, 0.95)
    x = np.concatenate(spectra)
    spread = np.cumsum(np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1])
    p = int((spread < 0.95 * spread[-1]).sum()) + 1
    assert 1 < p < 12
    assert {name: tuple(tensor.shape) for name, tensor in learnt.items()} == {
        "mean": (12,), "components": (p, 12), "weights": (4,), "means": (4, 3 * p), "variances": (4, 3 * p),
    }  # fmt: skip
    assert learnt["weights"].sum() == pytest.approx(1)
    with pytest.raises(CorpusError, match="300 frames of sound; 301 codewords need more"):
        learn_codebook(spectra, 301, 0.95)


def test_the_codebook_is_learnt_once(prepared: MultimodalRecipe, settings: dict[str, Any]) -> None:
    cache = settings["output"] / "cache"
    (kept,) = cache.glob("codebook-*.pt")
    stored = checkpoint.load(kept)
    checkpoint.save(kept, stored | {"network": stored["network"] | {"weights": torch.full((8,), 0.125)}})
    try:
        again = small_recipe(settings, cache=cache, output=settings["output"] / "again")
        _, timbral = listened(again.config, Progress())
        assert timbral is not None
        assert (timbral.weights == 0.125).all()
        assert len(list(cache.glob("features-*"))) == 2  # of another codebook
    finally:
        checkpoint.save(kept, stored)


@pytest.mark.parametrize("replica", ["Z", "Z+G", "A", "A+G"])
def test_replicas_lack_consumption(prepared: MultimodalRecipe, settings: dict[str, Any], replica: str) -> None:
    recipe = variant(prepared, settings, replica=replica)
    network = recipe.build()
    train = recipe.songs.parts["consumption"][recipe.songs.segments("train")]
    raw = np.zeros(32) if replica.startswith("Z") else train.mean(axis=0)
    instead = network.missing * network.scale + network.mean
    assert instead[-32:].numpy() == pytest.approx(raw, abs=1e-4)
    assert not network.missing[:-32].any()  # of audio always the average
    assert network.noise == (recipe.config.noise if "G" in replica else 0)
    whole, lacking = recipe.inputs(np.array([[0, WHOLE], [0, NO_CONSUMPTION]]))
    assert torch.equal(whole[:-32], lacking[:-32])  # the audio is the song's
    assert lacking[-32:].isnan().all()


def test_a_replica_without_audio_keeps_consumption(prepared: MultimodalRecipe, settings: dict[str, Any]) -> None:
    recipe = variant(prepared, settings, audio_replica=True)
    assert set(recipe.examples("train")[:, 1]) == {WHOLE, NO_CONSUMPTION, NO_AUDIO}
    whole, without = recipe.inputs(np.array([[0, WHOLE], [0, NO_AUDIO]]))
    assert without[:-32].isnan().all()
    assert torch.equal(without[-32:], whole[-32:])


def test_it_learns_a_handful_by_heart(prepared: MultimodalRecipe, settings: dict[str, Any]) -> None:
    recipe = variant(prepared, settings, learning_rate=1e-2, network={"channels": [32, 32, 32]})
    first, last = by_heart(recipe, np.arange(0, recipe.n_examples, 6)[:24], 60)
    assert last < 0.1 < math.log(len(CODES)) / 2 < first


def test_a_songs_answer_is_its_segments_by_their_seconds(prepared: MultimodalRecipe) -> None:
    songs = prepared.songs
    network = prepared.build().eval()
    labels, found = prepared.answers(network, "test")
    first = int(np.flatnonzero(songs.splits == "test")[0])
    mine = np.flatnonzero(songs.owner == first)
    with torch.no_grad():
        each = network(prepared.inputs(np.stack([mine, np.full_like(mine, WHOLE)], axis=1))).softmax(dim=1).numpy()
    assert found[0] == pytest.approx(np.average(each, axis=0, weights=songs.seconds[mine]), abs=1e-5)
    assert labels.tolist() == songs.labels[songs.splits == "test"].tolist()


def test_the_release_answers_as_the_training_did(release: Path, best: Path, settings: dict[str, Any]) -> None:
    verify(release)
    model = load_model(release)
    assert isinstance(model, MultimodalModel)
    stored = checkpoint.load(best)
    kept = {mode: list(by_class.values()) for mode, by_class in model.manifest.thresholds.items()}
    assert kept == stored["facts"]["thresholds"]
    assert set(kept) == {BOTH, AUDIO, CONSUMPTION}
    recipe = small_recipe(settings)
    recipe.prepare(Progress())  # from the cache
    network = recipe.build()
    network.load_state_dict(stored["network"])
    rows = [row for row in read_catalogue(settings["catalogue"], recipe.config.codes) if row.split == "valid"]
    assert model.audio is not None
    given = answer(model, read_inputs(model, rows, FeatureExtractor(model.audio), Progress()))
    assert set(given) == {BOTH, "audio_only", "consumption_only"}
    lacking = {BOTH: WHOLE, "audio_only": NO_CONSUMPTION, "consumption_only": NO_AUDIO}
    for case, lacks in lacking.items():
        _, expected = recipe.answers(network.eval(), "valid", lacks)
        assert given[case].probabilities == pytest.approx(expected, abs=0.02), case  # stored ears are rounded


def test_manifest_and_card_have_the_papers_measures(release: Path) -> None:
    metrics = load_model(release).manifest.metrics
    assert set(metrics) == {BOTH, "audio_only", "consumption_only"}
    assert set(metrics[BOTH]["validation"]) == {"P", "R", "F", "mAP"}
    card = (release / "CARD.md").read_text()
    assert "| mean | " in card
    assert "Made songs." in card


def test_the_evaluation_is_the_papers(release: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    chosen = EvaluationSet(settings["catalogue"], ("test",))
    said = MultimodalRecipe.evaluate(release, chosen, tmp_path / "out", Progress())
    assert f"{BOTH} mAP" in said
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert 0 <= stored["cases"]["audio_only"]["mAP"] <= 1
    assert stored["labels"] == ["en", "hi", "others"]


def test_golden_cases_have_every_modality(release: Path) -> None:
    cases = json.loads((release / "golden.json").read_text())["cases"]
    kinds = {(case["audio"] is not None, bool(case["further"])) for case in cases}
    assert kinds == {(True, False), (False, True), (True, True)}


def test_missing_consumption_is_the_average(release: Path) -> None:
    model = load_model(release)
    assert isinstance(model, MultimodalModel)
    raw = model.head._mean[-32:]
    heard = np.zeros((1, 2 * 257 + 17), np.float32)
    heard[0, :256], heard[0, 256], heard[0, -1] = 0.1, 1.0, 30
    without = model.combine({AUDIO: heard}, frozenset({AUDIO}))
    given = model.combine({AUDIO: heard, CONSUMPTION: raw}, frozenset({AUDIO, CONSUMPTION}))
    assert without.probabilities == pytest.approx(given.probabilities, abs=1e-5)
    reading = model.inputs[CONSUMPTION].read(Track(None, Metadata(), {CONSUMPTION: np.zeros(32, np.float32)}))
    assert reading is not None
    assert not reading.informative  # zeros say nothing: the average stands for them
    silent = model.combine({AUDIO: np.zeros_like(heard)}, frozenset({AUDIO}))  # no segment of voice
    assert silent.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert len(silent.windows) == 1


def test_each_mode_has_thresholds_of_its_own(release: Path) -> None:
    loaded = load_model(release)
    assert isinstance(loaded, MultimodalModel)
    surely, gladly = dict.fromkeys(CODES, 1.0), dict.fromkeys(CODES, 0.0)
    changed = loaded.manifest.model_copy(update={"thresholds": {AUDIO: surely, CONSUMPTION: gladly}})
    task = MultimodalModel(changed, read_weights(release, loaded.manifest)).task
    scores = Scores(np.array([0.9, 0.1, 0.0], np.float32), np.zeros((0, 3), np.float32))
    said = [task.answer(scores, frozenset({mode}), View())["language"] for mode in (AUDIO, CONSUMPTION)]
    assert said == ["und", "en"]


def test_tables_are_those_of_the_paper(prepared: MultimodalRecipe, settings: dict[str, Any], tmp_path: Path) -> None:
    small = {"epochs": 1, "steps_per_epoch": 1, "output": tmp_path, "cache": settings["output"] / "cache"}
    page = run_tables(small_recipe(settings, **small).config, [0], Progress())
    first, second = (part.splitlines()[2] for part in page.split("Table ")[1:])
    for name in ("Timbral", "Vocals", "Consumption", "Audio", "Multimodal"):
        assert f"{name} P | {name} R | {name} F | {name} mAP" in first
    assert second == "| language | Audio | baseline Z | baseline A | Z | Z+G | A | A+G |"
    assert page.count("| mean |") == 2


def test_cached_features_are_learnt_from_and_sessions_can_be_made(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    lines, hidden = ["id,language,artist,title,group,windows"], []
    for i in range(42):
        lines.append(f"{i},{('en', 'hi', 'zh')[i % 3]},a{i},t,{i // 3},{2 + i % 3}")
        hidden.append(rng.normal(i % 3, 1, (2 + i % 3, 256)))
    (tmp_path / "index.csv").write_text("\n".join(lines))
    np.savez(tmp_path / "windows.npz", hidden=np.concatenate(hidden))
    changes = {"features": tmp_path, "output": tmp_path / "run", "made_sessions": True, "most_windows": 2, "epochs": 2}
    recipe, said = small_recipe(settings, **changes), Progress()
    told: list[str] = []
    monkeypatch.setattr(said, "say", told.append)
    draft, _ = draft_of(recipe.train(said))
    assert told[0] == "no song has timbral: nothing is learnt from it"
    assert draft.about == "A 1-D ResNet of vocals, consumption (Lee & Coviello), replicas A"
    assert recipe.sizes == {"vocals": 256, "timbral": 0, "consumption": 32}
    assert recipe.measured_on is None
    assert len(recipe.songs.parts["vocals"]) == 84
    for group in range(14):
        assert len(set(recipe.songs.splits[3 * group : 3 * group + 3])) == 1
    folder = publish(tmp_path / "run" / "best.pt", tmp_path / "store")
    assert draft.manifest.labels == load_model(folder).manifest.labels


def test_songs_of_one_language_are_near_each_other() -> None:
    languages = ["en", "hi", "ta"] * 30
    vectors = session_embeddings(languages, 0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T
    same = np.array(languages)[:, None] == np.array(languages)
    assert alike[same].mean() > alike[~same].mean() + 0.2
    assert (session_embeddings(languages, 0) == vectors).all()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("[1, 2, 3]", "line 5: consumption: expected 32 numbers"),
        ("[NaN]", "line 5: consumption: expected a JSON array"),
        ("here", "line 5: consumption: expected a JSON array"),
    ],
)
def test_a_wrong_vector_is_named(settings: dict[str, Any], tmp_path: Path, cell: str, message: str) -> None:
    lines = Path(settings["catalogue"]).read_text().splitlines()
    head, _, _ = lines[4].rpartition(',"[')
    lines[4] = f'{head},"{cell}"'
    (tmp_path / "songs.csv").write_text("\n".join(lines))
    with pytest.raises(CorpusError, match=message):
        consumption_of(read_catalogue(tmp_path / "songs.csv", CODES))


def test_songs_without_consumption_are_learnt_from(settings: dict[str, Any]) -> None:
    rows = read_catalogue(settings["catalogue"], CODES)
    found = consumption_of([rows[0], type(rows[0])("line 9", None, Metadata(), 0, "train", "")])
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ("artist", "artist 'Made artist .*' is in split .*, and in .* on line 2"),
        ("path", "the same track as line 2, in split"),
    ],
)
def test_what_stands_in_two_splits_is_refused(settings: dict[str, Any], taken: str, message: str) -> None:
    table = read_table(settings["catalogue"])
    records = list(table.records.values())
    other = next(record for record in records if record["split"] != records[0]["split"])
    other |= {taken: records[0][taken], "language": records[0]["language"]}
    leaking = write_table(settings["catalogue"].with_name(f"{taken}.csv"), list(records[0]), records)
    with pytest.raises(CorpusError, match=message):
        small_recipe(settings, catalogue=leaking).prepare(Progress())


def test_what_cannot_be_trained_says_why(settings: dict[str, Any], best: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("title,language\nhello,en\n")
    with pytest.raises(CorpusError, match="no row has audio"):
        small_recipe(settings, catalogue=names, output=tmp_path / "a").train(Progress())
    with pytest.raises(TrainingError, match="resume"):
        small_recipe(settings).train(Progress())
    stored = checkpoint.load(best)
    with pytest.raises(CheckpointError, match="needs vocals"):
        small_recipe(settings).export(stored | {"facts": stored["facts"] | {"sizes": {"vocals": 0}}})
    only = tmp_path / "songs"
    shutil.copytree(Path(settings["catalogue"]).parent, only)
    text = (only / "songs.csv").read_text().replace(",valid,", ",train,")
    (only / "songs.csv").write_text(text)
    with pytest.raises(CorpusError, match="both splits"):
        small_recipe(settings, catalogue=only / "songs.csv", output=tmp_path / "b").train(Progress())
