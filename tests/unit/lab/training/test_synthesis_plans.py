"""What is sung and how it is drawn: lines, voices, settings, melodies. No synthesiser is needed here."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from app.lab.training.synthesis.clip import ClipName, ClipPlan, plan_clip
from app.lab.training.synthesis.corpus import CorpusOrder
from app.lab.training.synthesis.lines import SPLITS, load_grammars
from app.lab.training.synthesis.melody import SHORTEST_NOTE_SECONDS, draw_melody, scale_of
from app.lab.training.synthesis.settings import draw_settings
from app.lab.training.synthesis.voices import TRAIN_VOICES, VALID_VOICES

GRAMMARS = load_grammars()
LABELS = tuple(GRAMMARS)
PLANS_PER_LABEL = 120
VARIANTS = [voice.variant for voice in (*TRAIN_VOICES, *VALID_VOICES)]


@pytest.fixture(scope="module")
def plans() -> list[ClipPlan]:
    names = [ClipName(3, split, label, k) for split in SPLITS for k in range(PLANS_PER_LABEL) for label in LABELS]
    return [plan_clip(name, GRAMMARS[name.label]) for name in names]


def test_word_lists_cover_the_classes() -> None:
    assert set(LABELS) == {"en", "pt", "es", "ko", "others", "fr", "ja", "de", "pl", "it", "sv"}
    assert len(GRAMMARS["others"]) >= 17
    for label, grammars in GRAMMARS.items():
        for grammar in grammars:
            size = sum(len(words) for words in grammar.words.values())
            assert size >= (30 if label == "others" else 80), grammar.language
            assert all(len(set(words)) == len(words) for words in grammar.words.values()), grammar.language


def test_lines_and_words_of_validation_are_not_in_training(plans: list[ClipPlan]) -> None:
    lines = {split: {(p.language, line) for p in plans if p.name.split == split for line in p.text.split(", ")}
             for split in SPLITS}  # fmt: skip
    assert len(lines["train"]) > 1000
    assert not lines["train"] & lines["valid"]
    held_out = {g.language: {w for ws in g.held_out.values() for w in ws} for gs in GRAMMARS.values() for g in gs}
    for grammars in GRAMMARS.values():
        for grammar in grammars:
            assert not held_out[grammar.language] & {w for ws in grammar.sung_in_training.values() for w in ws}
            assert all(grammar.held_out[slot] and grammar.sung_in_training[slot] for slot in "SVOA")


def test_voices_of_validation_are_not_in_training(plans: list[ClipPlan]) -> None:
    sung = {split: {p.voice.split("+")[1] for p in plans if p.name.split == split} for split in SPLITS}
    assert sung["train"] == {v.variant for v in TRAIN_VOICES}
    assert sung["valid"] == {v.variant for v in VALID_VOICES}
    assert not sung["train"] & sung["valid"]


def _features(plans: list[ClipPlan]) -> np.ndarray:
    """Everything that is drawn, voice and melody included, (n_plans, n_features)."""
    rows = []
    for plan in plans:
        melody = draw_melody(plan.settings, np.random.default_rng(plan.settings.seed))
        notes = [note for note in melody.notes if note.kind != "rest"]
        tune = [melody.syllables, np.mean([n.midi for n in notes]), np.mean([n.seconds for n in notes])]
        voice = [float(plan.settings.voice.variant == v) for v in VARIANTS]
        rows.append([*plan.settings.as_vector(), *tune, *voice])
    return np.array(rows)


def _accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Held-out accuracy of a ridge classifier, trained on the first half."""
    x = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    x = np.hstack([x, x**2, np.ones((len(x), 1))])
    half = len(x) // 2
    targets = np.eye(len(LABELS))[labels[:half]]
    weights = np.linalg.solve(x[:half].T @ x[:half] + 10.0 * np.eye(x.shape[1]), x[:half].T @ targets)
    return float(np.mean((x[half:] @ weights).argmax(axis=1) == labels[half:]))


def test_settings_do_not_tell_the_language(plans: list[ClipPlan]) -> None:
    train = [p for p in plans if p.name.split == "train"]
    labels = np.array([LABELS.index(p.name.label) for p in train])
    features, chance, n = _features(train), 1 / len(LABELS), len(train) // 2
    bound = chance + 4 * np.sqrt(chance * (1 - chance) / n)
    assert _accuracy(features, labels) < bound
    leaking = features.copy()
    leaking[:, 1] += labels * leaking[:, 1].std()  # the test would notice
    assert _accuracy(leaking, labels) > bound


def test_plans_depend_on_seed_split_label_and_number_only() -> None:
    name = ClipName(5, "train", "de", 7)
    again = plan_clip(name, load_grammars()["de"])
    assert plan_clip(name, GRAMMARS["de"]) == again
    others = [ClipName(6, "train", "de", 7), ClipName(5, "valid", "de", 7), ClipName(5, "train", "de", 8)]
    assert all(plan_clip(other, GRAMMARS["de"]).settings.seed != again.settings.seed for other in others)
    assert plan_clip(ClipName(5, "train", "sv", 7), GRAMMARS["sv"]).settings.seed != again.settings.seed


def test_order_interleaves_classes_and_splits_and_grows() -> None:
    small, large = (list(CorpusOrder(n, v, 1).names(("en", "ja"))) for n, v in ((6, 2), (12, 4)))
    assert set(small) < set(large)
    assert len(set(large)) == len(large) == 2 * 16
    for end in range(8, len(large)):
        count = Counter(name.label for name in large[:end])
        assert abs(count["en"] - count["ja"]) <= 1
    half = Counter(name.split for name in large[:16])
    assert half["train"] == 12
    assert half["valid"] == 4


@pytest.mark.parametrize("seed", range(25))
def test_melody_fills_the_clip_in_its_key(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = draw_settings("train", rng)
    melody = draw_melody(settings, rng)
    assert sum(note.seconds for note in melody.notes) == pytest.approx(settings.seconds)
    assert melody.syllables >= 4
    for note in melody.notes:
        assert note.seconds >= (0 if note.kind == "rest" else SHORTEST_NOTE_SECONDS)
        if note.kind != "rest":
            assert round(note.midi - settings.tonic_midi) % 12 in scale_of(settings)
            assert abs(note.midi - settings.centre_midi) < 24
