from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from app.domain import Metadata
from app.errors import ReleaseError
from app.evaluation.calibrate import UNREACHABLE
from app.evaluation.evaluate import EvaluationSet
from app.families.contract import Label, Temperatures, Thresholds
from app.families.lrid_net.config import ListenConfig, LridNetManifest, NetworkConfig, ReadConfig
from app.families.lrid_net.model import LridNetModel
from app.families.lrid_net.network import LridNet
from app.families.lrid_net.read import langdetect_languages
from app.families.lrid_net_plus.config import PlusReadConfig
from app.families.lrid_net_plus.model import LridNetPlusModel
from app.families.lrid_net_plus.read import FieldReader
from app.families.store import load_model
from app.training.corpus import Row, read_manifest
from app.training.errors import CheckpointError, CorpusError, TrainingError
from app.training.plus_audio import AudioConfig, HeardCorpus, fit_audio
from app.training.plus_calibrate import calibrate_text, temperature_of_nothing
from app.training.plus_data import (
    ALBUM,
    ARTIST,
    TITLE,
    Drawer,
    Habits,
    Shelf,
    draw_probabilities,
    is_latin,
    latin_surplus,
    read_phrases,
    texts_of,
)
from app.training.plus_folds import HeldOut, fold_of, held_out_answers
from app.training.plus_main import LACKING_ROWS, Recipe, answer_mix
from app.training.plus_merge import merged, tilted
from app.training.plus_release import Parts, PlusReleaseConfig, make_plus_release
from app.training.train_plus import (
    PlusConfig,
    TextNet,
    fit_rows,
    load_text,
    predict,
    probabilities_of,
    rows_of,
    sources_of,
    train_text,
)

LABELS = (
    Label(code="en", iso639_3="eng", name="English"),
    Label(code="fr", iso639_3="fra", name="French"),
    Label(code="de", iso639_3="deu", name="German"),
)
WORDS = {
    "en": ["the night", "love", "rain", "waiting", "my heart", "of you", "summer", "away"],
    "fr": ["la nuit", "l'amour", "sous la pluie", "j'attends", "mon cœur", "de toi", "l'été", "ailleurs"],
    "de": ["die Nacht", "Liebe", "der Regen", "ich warte", "mein Herz", "von dir", "Sommer", "über alles"],
}
TINY = {"epochs": 3, "rows_per_epoch": 1600, "batch_size": 32, "warmup_steps": 4, "threads": 1}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    lines = ["split\tlabel\tlanguage\tstrength\tsource\tartist\talbum\ttitle"]
    for split, n in (("train", 60), ("valid", 20), ("test", 20)):
        for code, words in WORDS.items():
            for i in range(n):
                title, album = (" ".join(rng.choice(words, 2, replace=False)) for _ in range(2))
                album = album if i % 3 else ""
                lines.append(f"{split}\t{code}\t{code}\tstrong\tmade\tArtist {split} {code} {i // 4}\t{album}\t{title}")
    path = tmp_path_factory.mktemp("corpus") / "metadata.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def config(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> PlusConfig:
    return PlusConfig(
        manifest=manifest,
        output=tmp_path_factory.mktemp("run"),
        labels=LABELS,
        class_counts={"en": 4, "fr": 1, "de": 1},
        read=PlusReadConfig(languages=list(langdetect_languages()), buckets_log2=10, embedding_size=4),
        network=NetworkConfig(text_units=16, identify_units=16),
        phrases=False,
        **TINY,
    )


@pytest.fixture(scope="module")
def trained(config: PlusConfig) -> TextNet:
    train_text(config)
    return load_text(config.output / "text.pt", config)[0]


@pytest.fixture(scope="module")
def rows(manifest: Path, config: PlusConfig) -> list[Row]:
    return read_manifest(manifest, config.codes)


@pytest.fixture(scope="module")
def shelf(config: PlusConfig) -> Shelf:
    return Shelf(FieldReader(config.read))


def accuracy(network: TextNet, shelf: Shelf, rows: list[Row]) -> float:
    logits = predict(network, shelf, [texts_of(row.metadata) for row in rows])
    return float((logits.argmax(dim=1).numpy() == [row.label for row in rows]).mean())


def test_it_learns_words_for_other_artists(trained: TextNet, shelf: Shelf, rows: list[Row], config: PlusConfig) -> None:
    assert accuracy(trained, shelf, [row for row in rows if row.split == "test"]) > 0.9
    assert len((config.output / "log.jsonl").read_text().splitlines()) == config.epochs


def test_without_text_the_answer_is_the_class_mix(trained: TextNet, shelf: Shelf, config: PlusConfig) -> None:
    logits = predict(trained, shelf, [(None, None, None), ("1984", None, "12")])
    assert logits[0].tolist() == logits[1].tolist()
    assert int(logits[0].argmax()) == int(config.class_mix().argmax())


def test_resuming_ends_at_the_same_weights(config: PlusConfig, trained: TextNet, tmp_path: Path) -> None:
    again = replace(config, output=tmp_path)
    train_text(again)
    whole = torch.load(tmp_path / "text.pt", weights_only=True)
    assert all(torch.equal(tensor, whole["network"][name]) for name, tensor in trained.state_dict().items())
    with pytest.MonkeyPatch.context() as patch:  # killed after the second of three epochs
        patch.setattr("app.training.train_plus._score", _killed_at(2))
        with pytest.raises(KeyboardInterrupt):
            train_text(replace(config, output=tmp_path / "cut"))
    train_text(replace(config, output=tmp_path / "cut", resume=True))
    resumed = torch.load(tmp_path / "cut" / "text.pt", weights_only=True)
    assert all(torch.equal(tensor, whole["network"][name]) for name, tensor in resumed["network"].items())


def _killed_at(epoch: int):
    calls = iter(range(100))

    def score(*_: object) -> dict[str, float]:
        if next(calls) == epoch:
            raise KeyboardInterrupt
        return {}

    return score


def test_a_checkpoint_of_another_training_is_refused(config: PlusConfig, trained: TextNet) -> None:
    with pytest.raises(CheckpointError, match="its seed is 0, this training's is 5"):
        load_text(config.output / "text.pt", replace(config, seed=5))


def test_every_class_needs_a_count_and_rows(config: PlusConfig, rows: list[Row]) -> None:
    with pytest.raises(TrainingError, match="no count for de"):
        replace(config, class_counts={"en": 1, "fr": 1}).class_mix()
    with pytest.raises(CorpusError, match="no training rows of class number 2"):
        draw_probabilities([row for row in rows if row.label != 2], config.class_mix(), {})


def test_rows_are_drawn_in_the_class_mix_and_by_strength(rows: list[Row], config: PlusConfig) -> None:
    changed = [replace(row, strength="weak-artist") if i % 2 else row for i, row in enumerate(rows)]
    p = draw_probabilities(changed, config.class_mix(), {"weak": 0.5})
    labels = np.array([row.label for row in changed])
    np.testing.assert_allclose(np.bincount(labels, p), config.class_mix())
    of_english = p[labels == 0]
    np.testing.assert_allclose(of_english.max() / of_english.min(), 2.0)


STILL = {"give_artist": 1.0, "give_album": 1.0, "give_title": 1.0, "give_nothing": 0.0, "replace_artist": 0.0,
         "stray_artist": 0.0, "replace_album": 0.0, "lose_accents": 0.0, "drop_ngram": 0.0}  # fmt: skip


def test_an_artist_of_many_rows_counts_less(rows: list[Row]) -> None:
    many = [replace(rows[0], metadata=Metadata(artist="Many", title=str(i))) for i in range(16)]
    few = [replace(rows[0], metadata=Metadata(artist="Few", title="one")), replace(rows[0], metadata=Metadata(title="x"))]
    p = draw_probabilities(many + few, np.array([1.0]), {}, artist_power=0.5)
    np.testing.assert_allclose(p / p[-1], [0.25] * 16 + [1.0, 1.0])


def test_phrases_are_rows_of_their_class(config: PlusConfig) -> None:
    phrases = read_phrases(config.codes)
    assert {row.label for row in phrases} == {0, 1, 2}
    assert all(row.metadata.fields == ("title",) and row.split == "train" for row in phrases)
    titles = [row.metadata.title for row in phrases]
    assert len(set(titles)) > 0.9 * len(titles) > 200


def test_habits_one_by_one(rows: list[Row]) -> None:
    uniform = np.full(len(rows), 1 / len(rows))
    rng = np.random.default_rng(0)

    def drawer(**habits: float) -> Drawer:
        return Drawer(rows, uniform, Habits(**{**STILL, **habits}))

    whole = [i for i, row in enumerate(rows) if row.metadata.album]
    assert all(drawer().likeness(i, rng) == texts_of(rows[i].metadata) for i in whole)
    assert drawer(give_nothing=1.0).likeness(0, rng) == (None, None, None)
    assert all(drawer(give_artist=0.0).likeness(i, rng)[ARTIST] is None for i in range(20))
    assert all(any(drawer(give_artist=0.0, give_album=0.0, give_title=0.0).likeness(i, rng)) for i in range(20))
    swapped = {drawer(replace_artist=1.0).likeness(0, rng)[ARTIST] for _ in range(30)}
    assert len(swapped) > 3
    assert swapped <= {row.metadata.artist for row in rows if row.label == rows[0].label}
    strays = {drawer(stray_artist=1.0).likeness(0, rng)[ARTIST] for _ in range(60)}
    assert len({artist.split()[2] for artist in strays if artist}) == len(LABELS)
    summer = next(i for i, row in enumerate(rows) if "l'été" in (row.metadata.title or ""))
    assert "l'ete" in (drawer(lose_accents=1.0).likeness(summer, rng)[TITLE] or "")


def test_whether_a_field_is_given_does_not_tell_where_a_row_comes_from(rows: list[Row]) -> None:
    """Rows without an album are sent with one as often as others: the title of a row of the artist."""
    drawer = Drawer(rows, np.full(len(rows), 1 / len(rows)), Habits(**{**STILL, "give_album": 0.5}))
    rng = np.random.default_rng(0)
    for i in (next(i for i, row in enumerate(rows) if bool(row.metadata.album) == has) for has in (True, False)):
        sent = [drawer.likeness(i, rng)[ALBUM] for _ in range(300)]
        assert np.mean([album is not None for album in sent]) == pytest.approx(0.5, abs=0.1)
        artist = rows[i].metadata.artist
        known = {row.metadata.title for row in rows if row.metadata.artist == artist} | {rows[i].metadata.album, None}
        assert set(sent) <= known


def test_accents_are_lost_from_latin_letters_only(rows: list[Row]) -> None:
    row = replace(rows[0], metadata=Metadata(artist="Й", album="가がé", title="cœur"))
    drawer = Drawer([row], np.ones(1), Habits(**{**STILL, "lose_accents": 1.0}))
    assert drawer.likeness(0, np.random.default_rng(0)) == ("Й", "가がe", "cœur")


def test_training_and_serving_read_alike(
    trunk: LridNetModel,
    trained: TextNet,
    shelf: Shelf,
    config: PlusConfig,
    tmp_path: Path,
    manifest: Path,
    held_out: HeldOut,
) -> None:
    model = load_model(make_plus_release(_release(tmp_path, manifest, held_out), config, _parts(trunk, trained)))
    texts = [("Nachtzug", None, "Über alles"), (None, "La nuit", None), (None, None, "1984"), ("a", "b", "c")]
    logits = predict(trained, shelf, texts)
    temperature = model.manifest.temperature.text_only
    for text, expected in zip(texts, torch.softmax(logits / temperature, dim=1).numpy(), strict=True):
        found = model.identify(None, model.read(Metadata(*text))).mean
        np.testing.assert_allclose(found, expected, atol=5e-3)  # weights are stored in fp16


def test_a_release_explains_itself_and_keeps_quiet_on_audio(
    trunk: LridNetModel, trained: TextNet, config: PlusConfig, tmp_path: Path, manifest: Path, held_out: HeldOut
) -> None:
    place = make_plus_release(_release(tmp_path, manifest, held_out), config, _parts(trunk, trained))
    model = load_model(place)
    assert isinstance(model, LridNetPlusModel)
    assert model.manifest.training["class_prior"]["en"] == pytest.approx(0.5)
    assert model.manifest.metrics["text_only"]["made"]["weighted_f1"] > 0.9
    assert set(model.manifest.metrics["text_only"]) >= {"made, title only", "made, prior uniform"}
    features = np.random.default_rng(0).normal(size=(2, model.n_audio_features)).astype(np.float32)
    reading = model.read(Metadata(title="la nuit de toi"))
    np.testing.assert_allclose(model.identify(features, reading).mean, model.identify(None, reading).mean, atol=1e-6)
    alone = model.identify(features, None).mean
    assert alone.max() < model.manifest.thresholds.audio_only
    assert alone[0] == alone.max() == pytest.approx(0.5, abs=0.03), "audio that is not listened to: the class mix"
    card = (place / "CARD.md").read_text(encoding="utf-8")
    assert "| made, title only |" in card
    assert "Fitted on made rows." in card
    assert "does not listen" in card
    with pytest.raises(ReleaseError, match="releases never change"):
        make_plus_release(_release(tmp_path, manifest, held_out), config, _parts(trunk, trained))


def test_audio_may_be_trusted_without_touching_text(
    trunk: LridNetModel, trained: TextNet, config: PlusConfig, rows: list[Row], shelf: Shelf
) -> None:
    """Features that give the language away: trusted, they decide where there is no text; text alone stays as it was."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    features = rng.normal(size=(120, trunk.n_audio_features)).astype(np.float32)
    features[np.arange(120), labels] += 6.0
    heard = HeardCorpus(features, labels, np.zeros(trunk.n_audio_features, np.float32))
    drawer = Drawer(rows, draw_probabilities(rows, config.class_mix(), {}), config.habits)
    assert not fit_audio(trained, heard, drawer, shelf, AudioConfig(trust=0.0)).any()
    settings = AudioConfig(trust=0.9, steps=150, learning_rate=1e-2, batch_size=64)
    weight = fit_audio(trained, heard, drawer, shelf, settings)
    with torch.no_grad():
        nothing = trained.read(shelf.batch([(None, None, None)]))
        heard_alone = trained.identify(nothing.expand(120, -1), torch.from_numpy(features) @ weight.T)
        silent = trained.identify(nothing, torch.zeros(1, trunk.n_audio_features) @ weight.T)
    assert (heard_alone.argmax(dim=1).numpy() == labels).mean() > 0.8
    torch.testing.assert_close(silent, predict(trained, shelf, [(None, None, None)]))


def test_several_networks_become_one_that_answers_their_mean(config: PlusConfig, trained: TextNet, shelf: Shelf) -> None:
    torch.manual_seed(3)
    other = TextNet(config)
    with torch.no_grad():
        other.g[0][1].running_mean.normal_()  # type: ignore[index, union-attr]
    whole, wide = merged([trained, other], config)
    assert wide.network.text_units == 2 * config.network.text_units
    texts = [("Nachtzug", None, "Über alles"), (None, "La nuit", None), (None, None, None)]
    mean = (predict(trained, shelf, texts) + predict(other, shelf, texts)) / 2
    torch.testing.assert_close(predict(whole, shelf, texts), mean, atol=1e-4, rtol=1e-4)


def test_a_network_may_answer_with_another_class_mix(config: PlusConfig, trained: TextNet, shelf: Shelf) -> None:
    mix, wanted = config.class_mix(), np.array([0.2, 0.2, 0.6])
    texts = [("Nachtzug", None, "La nuit"), (None, None, None)]
    before, after = (
        torch.softmax(predict(network, shelf, texts) / 1.5, dim=1).numpy()
        for network in (trained, tilted(trained, mix, wanted, temperature=1.5))
    )
    expected = before * wanted / mix
    np.testing.assert_allclose(after, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4)


def test_held_out_rows_are_answered_by_networks_that_never_saw_their_artists(
    held_out: HeldOut, rows: list[Row], config: PlusConfig
) -> None:
    asked = [row for row in rows if row.split != "test"]
    assert sorted(held_out.labels.tolist()) == sorted(row.label for row in asked)
    assert {fold_of(row, 2) for row in asked} == {0, 1}
    assert len({(row.metadata.artist, fold_of(row, 2)) for row in asked}) == len({row.metadata.artist for row in asked})
    whole = held_out.logits["all fields"]
    assert whole.shape == (len(asked), 3)
    assert (whole.argmax(axis=1) == held_out.labels).mean() > 0.85
    assert not np.array_equal(whole, held_out.logits["title only"])
    with pytest.raises(CorpusError, match="no rows of elsewhere"):
        held_out_answers(config, ["elsewhere"])


def test_each_language_has_the_least_threshold_that_is_right_often_enough() -> None:
    """French is wrong under .8, German always right, English too rare for a threshold of its own."""
    confidence = np.concatenate([np.linspace(0.5, 0.99, 100), np.linspace(0.5, 0.99, 100), np.full(5, 0.9)])
    said = np.repeat([1, 2, 0], [100, 100, 5])
    probabilities = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(205), said] = confidence
    labels = np.where((said == 1) & (confidence < 0.8), 0, said)
    found = calibrate_text(HeldOut(labels, {"all fields": np.log(probabilities)}), np.zeros(3), ["en", "fr", "de"])
    assert set(found.by_language) == {"fr", "de"}
    assert found.by_language["de"] < 0.7 < found.by_language["fr"]
    precision, coverage, _ = found.answered["all fields"]
    assert precision >= 0.95
    assert 0.5 < coverage < 0.9
    assert found.modes["audio_only"].threshold == UNREACHABLE


def test_phrases_that_are_held_out_titles_are_left_out(config: PlusConfig) -> None:
    all_of_them = read_phrases(config.codes)
    title = all_of_them[0].metadata.title
    fewer = read_phrases(config.codes, [title.upper()])
    assert title not in {row.metadata.title for row in fewer}
    assert len(fewer) == len(all_of_them) - sum(row.metadata.title == title for row in all_of_them)


def test_rows_of_a_source_may_weigh_more(rows: list[Row], config: PlusConfig) -> None:
    train_rows, valid_rows = rows_of(config)
    assert {row.split for row in train_rows} == {"train"}
    assert {row.split for row in valid_rows} == {"valid"}
    assert set(sources_of(config.manifest).values()) == {"made"}
    own = np.where(np.arange(len(rows)) % 2, 1.0, 3.0)
    p = draw_probabilities(rows, config.class_mix(), {}, own=own)
    labels = np.array([row.label for row in rows])
    np.testing.assert_allclose(np.bincount(labels, p), config.class_mix())
    np.testing.assert_allclose(p[labels == 0].max() / p[labels == 0].min(), 3.0)


def test_rows_in_latin_letters_may_be_rare_within_a_class(rows: list[Row], config: PlusConfig) -> None:
    """The class keeps its share; within it, names in its own script are drawn ten times as often as the others."""
    blossom = Metadata(title="桜の花")
    native = [replace(row, metadata=blossom) if row.label == 2 and i % 2 else row for i, row in enumerate(rows)]
    p = probabilities_of(native, replace(config, latin_weights={"de": 0.1}, strength_weights={}, artist_power=1.0))
    labels = np.array([row.label for row in native])
    np.testing.assert_allclose(np.bincount(labels, p), config.class_mix())
    own_script = np.array([row.metadata == blossom for row in native])
    np.testing.assert_allclose(p[own_script].mean() / p[(labels == 2) & ~own_script].mean(), 10.0)
    np.testing.assert_allclose(p[labels == 0], p[labels == 0][0])


def test_a_class_may_be_rarer_where_all_letters_are_latin(
    trained: TextNet, shelf: Shelf, rows: list[Row], config: PlusConfig
) -> None:
    """German as it is Japanese elsewhere: all its rows are Latin, so that a hundredth is left of its odds, give or take."""
    rarer = fit_rows(replace(config, latin_shares={"de": 0.01}), [row for row in rows if row.split == "train"], shelf)
    texts = [("Somebody", None, "Something"), (None, None, "La Luna"), ("Artist", "Album", "Title")]
    change = predict(rarer, shelf, texts) - predict(trained, shelf, texts)
    assert -7 < float((change[:, 2] - change[:, 0]).mean()) < -2
    unread = predict(rarer, shelf, [("1984", None, None)]) - predict(trained, shelf, [("1984", None, None)])
    assert float(unread.abs().max()) < 2


def test_the_surplus_goes_to_texts_whose_letters_are_all_latin() -> None:
    texts = [("Perfume", None, "Dream Fighter"), ("Perfume", None, "夢"), (None, None, None), (None, "12", "1984")]
    found = latin_surplus(texts, [1.0, 0.01])
    np.testing.assert_allclose(found, [[0, np.log(100)], [0, 0], [0, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("title", "latin"),
    [("Sexy! No No No...", True), ("Namida no Mukō", True), ("Đường về", True), ("1984", True), ("사랑 (Love)", False),
     ("桜", False), ("さくら", False), ("Тёмная ночь", False)],
)  # fmt: skip
def test_what_is_latin(title: str, latin: bool) -> None:
    assert is_latin(title) == latin


def test_the_answer_to_nothing_is_calibrated_to_the_class_mix() -> None:
    mix = np.array([0.7, 0.2, 0.1])
    flat = np.sqrt(mix) / np.sqrt(mix).sum()
    assert temperature_of_nothing(flat, mix) == pytest.approx(0.5, rel=0.01)
    assert temperature_of_nothing(mix, mix) == pytest.approx(1.0, rel=0.01)


def test_a_class_without_sure_rows_has_the_share_of_a_few(manifest: Path, tmp_path: Path) -> None:
    lines = manifest.read_text(encoding="utf-8").splitlines()
    unsure = tmp_path / "metadata.tsv"
    unsure.write_text("\n".join(line.replace("made", "guessed") if "\tde\t" in line else line for line in lines) + "\n")
    recipe = Recipe(
        metadata=unsure, output=tmp_path, store=tmp_path, release="1", sources=["made"], data="", limits="",
        text={"labels": LABELS, "class_counts": {"en": 4, "fr": 1, "de": 1}},
    )  # fmt: skip
    mix = answer_mix(recipe, recipe.config())
    en, fr = 0.5**0.75 * 0.5**0.25, 0.25**0.75 * 0.5**0.25
    de = LACKING_ROWS / (160 + 3)  # 80 sure rows of each other class in train and valid
    assert mix == pytest.approx({"en": en / (en + fr + de), "fr": fr / (en + fr + de), "de": de / (en + fr + de)})


@pytest.fixture(scope="module")
def trunk() -> LridNetModel:
    torch.manual_seed(0)
    network = NetworkConfig(base_channels=1, stage_blocks=[1, 1, 1, 1], text_units=8, identify_units=8)
    read = ReadConfig(languages=list(langdetect_languages()))
    manifest = LridNetManifest(
        family="lrid_net", release="1", created=date(2025, 1, 1), labels=list(LABELS), sha256="0" * 64, training={},
        metrics={}, temperature=Temperatures(), thresholds=Thresholds(), listen=ListenConfig(window_seconds=2.0),
        read=read, network=network,
    )  # fmt: skip
    whole = LridNet(network, n_text=read.n_features, n_classes=len(LABELS))
    return LridNetModel(manifest, {n: t for n, t in whole.state_dict().items() if "num_batches" not in n})


def _parts(trunk: LridNetModel, text: TextNet) -> Parts:
    units = text.h[0][0].out_features  # type: ignore[index, union-attr]
    tensors = {name: tensor for name, tensor in trunk.network.state_dict().items() if "num_batches" not in name}
    return Parts(text, 180, trunk, tensors, torch.zeros(units, trunk.n_audio_features))


@pytest.fixture(scope="module")
def held_out(config: PlusConfig) -> HeldOut:
    return held_out_answers(config, ["made"], n_folds=2)


def _release(store: Path, manifest: Path, held_out: HeldOut) -> PlusReleaseConfig:
    valid = EvaluationSet("made", "Made rows.", manifest, splits=("valid",))
    return PlusReleaseConfig(
        store=store, release="1", held_out=held_out, held_out_note="Fitted on made rows.", figures=[valid],
        answer_mix={"en": 2, "fr": 1, "de": 1}, data="Made rows.", limits="Nearly all.",
    )  # fmt: skip


def test_the_settings_of_a_run_are_kept(config: PlusConfig, trained: TextNet) -> None:
    kept = json.loads((config.output / "config.json").read_text(encoding="utf-8"))
    assert kept["habits"]["give_artist"] == config.habits.give_artist
    assert kept["class_mix"] == [0.5, 0.25, 0.25]
