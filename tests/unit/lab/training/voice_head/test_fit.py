"""The fit of a head on synthetic songs: four languages, instrumentals, and a bias that the fit has to undo."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.domain import AUDIO, FloatArray
from app.families.lrid_voice.identify import VoiceHead
from app.lab.errors import TrainingError
from app.lab.training.voice_head.data import NOTHING, Songs, group_folds, planned, read_heard, with_speech
from app.lab.training.voice_head.fit import FittedHead, Given, fit_head, fit_threshold, listen
from app.lab.training.voice_head.report import UNTIL_SURE, answer, cross_validate, figures
from app.lab.training.voice_head.settings import HeadSettings

LANGUAGES = ("en", "de", "fr", "ja", "cy")
CODES = ("en", "de", "fr", "ja", "others")
N_HIDDEN, N_WINDOWS, SINGING = 12, 18, 10
SETTINGS = HeadSettings(inner_folds=3, draws=1, positions=(0.3, 0.6, 0.45, 0.8))
MIX = dict(zip(CODES, (0.6, 0.1, 0.1, 0.1, 0.1), strict=True))
GIVEN = Given(np.eye(N_HIDDEN, dtype=np.float32)[: len(LANGUAGES)], LANGUAGES, MIX)


def make_songs(per_language: int = 6, seed: int = 0) -> Songs:
    """Each song by its own artist; the ears hear English where they are unsure; first and last windows are unsure."""
    random = np.random.default_rng(seed)
    labels = [label for label in range(4) for _ in range(per_language)] + [NOTHING] * 6
    hidden = [_song(label, random) for label in labels]
    readings = np.full((len(labels), len(CODES)), 0.02, np.float32)
    for song, label in enumerate(labels):
        readings[song, max(label, 0)] = 0.92
    readings[::5] = np.nan
    counts = np.full(len(labels), N_WINDOWS, np.int64)
    groups = np.arange(len(labels)) // 2
    return Songs(np.concatenate(hidden), counts, np.array(labels), groups, readings)


def _song(label: int, random: np.random.Generator) -> FloatArray:
    hidden = random.normal(0, 0.5, (N_WINDOWS, N_HIDDEN)).astype(np.float32)
    hidden[:, 0] += 0.6
    if label != NOTHING:
        hidden[1:-2, label] += 3.0
        hidden[1:-2, SINGING] += 6.0
        hidden[1:-2, 0] += 3.0 * (random.random(N_WINDOWS - 3) < 0.3)
    return hidden


@pytest.fixture(scope="module")
def songs() -> Songs:
    return make_songs()


@pytest.fixture(scope="module")
def fitted(songs: Songs) -> FittedHead:
    return fit_head(songs, GIVEN, SETTINGS)


@pytest.fixture(scope="module")
def head(fitted: FittedHead) -> VoiceHead:
    return fitted.head(CODES)


def test_new_songs_are_identified(head: VoiceHead) -> None:
    new = make_songs(seed=1)
    songs = [new.hidden[first : first + N_WINDOWS] for first in new.first]
    decisions = [answer(head, head.combine(song, {}), {"audio"}).decision for song in songs]
    wanted = ["zxx" if label == NOTHING else CODES[label] for label in new.labels]
    assert np.mean([decision == want for decision, want in zip(decisions, wanted, strict=True)]) > 0.8, decisions


def test_biases_undo_what_the_ears_prefer(fitted: FittedHead) -> None:
    bias = {token.code: token.bias for token in fitted.config.tokens}
    assert bias["en"] < min(bias["de"], bias["fr"], bias["ja"])


def test_a_language_without_songs_stays_at_the_prior(fitted: FittedHead) -> None:
    assert {token.code: token.bias for token in fitted.config.tokens}["cy"] == SETTINGS.prior_rare


def test_rows_learn_what_tells_languages_apart_and_stay_where_there_are_no_songs(songs: Songs) -> None:
    """German is heard as French, but for a feature that the ears' rows do not look at."""
    german = np.isin(songs.owner, np.flatnonzero(songs.labels == 1))
    hidden = songs.hidden.copy()
    hidden[german, 2] += hidden[german, 1]
    hidden[german, 1] = 0.0
    hidden[german, 7] += 1.5
    alike = replace(songs, hidden=hidden, names=np.full_like(songs.names, np.nan))
    right = {}
    for strength in (3.0, 1e9):
        fitted = fit_head(alike, GIVEN, SETTINGS.model_copy(update={"row_l2": strength}))
        held = [fitted.head(CODES).combine(alike.windows(song), {}).probabilities for song in range(24)]
        right[strength] = float(np.mean([one.argmax() for one in held] == songs.labels[:24]))
        assert np.array_equal(fitted.tensors["identify.languages"][4], GIVEN.rows[4])
    assert right[1e9] < 0.9 < right[3.0]


def test_the_same_songs_give_the_same_head(songs: Songs, fitted: FittedHead) -> None:
    assert fit_head(songs, GIVEN, SETTINGS).config == fitted.config


def test_every_mode_has_a_threshold(fitted: FittedHead) -> None:
    assert set(fitted.config.thresholds) == {"audio", "text", "audio+text"}
    assert fitted.config.thresholds["text"] == 0.5


def share_of(decision: str, head: VoiceHead, recordings: Sequence[FloatArray]) -> float:
    """Share of recordings, (n_windows, n_hidden) each, that are answered so when listened to from end to end."""
    answers = [answer(head, head.combine(one, {}), {AUDIO}) for one in recordings]
    return sum(one.decision == decision for one in answers) / len(answers)


def test_right_names_gain_exponent(fitted: FittedHead) -> None:
    expert = fitted.config.experts["text"]
    assert expert.exponent > 0.3
    assert 0.0 < expert.doubt < 0.5


def test_songs_without_names_make_a_head_that_takes_names(songs: Songs) -> None:
    """A release reads names, whatever its head was fitted to."""
    fitted = fit_head(replace(songs, names=np.full_like(songs.names, np.nan)), GIVEN, SETTINGS)
    assert set(fitted.config.thresholds) == {"audio", "text", "audio+text"}
    names = np.array([0.01, 0.96, 0.01, 0.01, 0.01], np.float32)
    assert fitted.head(CODES).combine(None, {"text": names}).probabilities.argmax() == 1
    assert fitted.head(CODES).combine(songs.windows(0), {"text": names}).probabilities.argmax() == 0


def test_instrumentals_are_known_from_the_edges_of_songs(songs: Songs) -> None:
    """Without any instrumental to learn from."""
    sung = songs.subset(np.flatnonzero(songs.sung))
    head = fit_head(replace(sung, names=np.full_like(sung.names, np.nan)), GIVEN, SETTINGS).head(CODES)
    instrumentals = songs.subset(np.flatnonzero(~songs.sung))
    recordings = [instrumentals.windows(song) for song in range(len(instrumentals.labels))]
    assert share_of("zxx", head, recordings) > 0.8


def test_speech_is_not_taken_for_nothing_sung(songs: Songs, fitted: FittedHead) -> None:
    """Clips of one window that have little of what singing has, in a language that is not learnt from them."""
    random = np.random.default_rng(1)
    clips = random.normal(0, 0.5, (430, 1, N_HIDDEN)).astype(np.float32)
    clips[:, :, 0] += 0.6
    clips[:, :, N_HIDDEN - 1] += 4.0
    speakers = [str(i // 2) for i in range(30)]
    taught = fit_head(with_speech(songs, speakers, list(clips[:30])), GIVEN, SETTINGS)
    assert [token.bias for token in taught.config.tokens] == [token.bias for token in fitted.config.tokens]
    shares = [share_of("zxx", one.head(CODES), list(clips[30:])) for one in (fitted, taught)]
    assert shares[0] > 0.4
    assert shares[1] < 0.2


def test_cross_validation_holds_out_groups(songs: Songs, head: VoiceHead) -> None:
    held = cross_validate(songs, GIVEN, SETTINGS, n_folds=3)
    sung = np.flatnonzero(songs.sung)
    n, accuracy, *_ = figures([held[song][UNTIL_SURE] for song in sung], songs.labels[sung], CODES)
    assert n == len(sung)
    assert isinstance(accuracy, float)
    assert accuracy > 0.9
    assert all(1 <= song[UNTIL_SURE].windows <= len(SETTINGS.positions) for song in held)
    assert ["names" not in song for song in held] == np.isnan(songs.names[:, 0]).tolist()


def test_two_languages_are_mul(songs: Songs, head: VoiceHead) -> None:
    """Eight windows from the middle of a song, then eight of one in another language."""
    windows = [songs.windows(song)[5:13] for song in range(24)]
    recordings = [np.concatenate([windows[song], windows[(song + 6) % 24]]) for song in range(24)]
    assert share_of("mul", head, recordings) > 0.5


def test_listening_stops_when_it_is_enough(songs: Songs, head: VoiceHead) -> None:
    """Never before the answer is enough, nor after; at the last planned window where it never is."""
    order, stopped = planned(N_WINDOWS, SETTINGS.positions), set()
    for song in range(len(songs.labels)):
        scores = head.windows(songs.windows(song))
        heard = listen(head, scores, order, {})
        steps = [head.join(scores[order[:windows]], {}).enough for windows in range(1, len(heard.windows) + 1)]
        assert not any(steps[:-1])
        assert heard.enough == steps[-1]
        assert steps[-1] or len(heard.windows) == len(order)
        stopped.add(len(heard.windows))
    assert len(stopped) > 1


@pytest.mark.parametrize(("labels", "threshold"), [([0, 0, 0, 0], 0.95), ([0, 0, 1, 1], 0.98), ([1, 1, 1, 1], 0.99)])
def test_the_threshold_is_the_least_that_is_precise(head: VoiceHead, labels: list[int], threshold: float) -> None:
    """Of 1.0, 0.98, 0.95 and 0.3; the last case has no precise answer."""
    one = head.combine(np.zeros((1, N_HIDDEN), np.float32), {})
    answers = [replace(one, probabilities=np.array([p, 0])) for p in (1.0, 0.98, 0.95, 0.3)]
    assert fit_threshold(answers, np.array(labels), SETTINGS) == threshold


@pytest.mark.parametrize(
    ("count", "wanted"), [(1, [0]), (3, [0, 1, 2]), (4, [1, 2, 0, 3]), (10, [3, 6, 4, 8]), (100, [30, 60, 45, 80])]
)
def test_windows_are_planned_by_position(count: int, wanted: list[int]) -> None:
    assert planned(count, (0.3, 0.6, 0.45, 0.8)).tolist()[: len(wanted)] == wanted[:count]
    assert len(set(planned(count, (0.3, 0.6, 0.45, 0.8)).tolist())) == min(count, 4)


def test_a_group_is_in_one_fold(songs: Songs) -> None:
    folds = group_folds(songs, 4, seed=0)
    assert all(len(set(folds[songs.groups == group])) == 1 for group in songs.groups)
    assert set(folds) == {0, 1, 2, 3}


def test_too_few_groups_are_refused(songs: Songs) -> None:
    with pytest.raises(TrainingError, match="at least 3 artists"):
        fit_head(replace(songs, groups=np.zeros(len(songs.labels), np.int64)), GIVEN, SETTINGS)


def test_cached_features_are_read(tmp_path: Path) -> None:
    lines = ["id,language,group,windows", "0,yue,a,2", "1,zxx,b,1", "2,xx,a,1"]
    (tmp_path / "index.csv").write_text("\n".join(lines), encoding="utf-8")
    np.savez(tmp_path / "windows.npz", hidden=np.ones((4, 3), np.float16))
    songs = read_heard(tmp_path, ("en", "zh", "others"))
    assert songs.labels.tolist() == [1, NOTHING, 2]
    assert songs.groups[0] == songs.groups[2] != songs.groups[1]
    assert songs.subset(np.array([2, 0])).owner.tolist() == [0, 1, 1]


def test_damaged_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        read_heard(tmp_path, CODES)
    (tmp_path / "index.csv").write_text("language,group,windows\nen,a,2\n", encoding="utf-8")
    np.savez(tmp_path / "windows.npz", hidden=np.ones((3, 3), np.float16))
    with pytest.raises(TrainingError, match="counts 2 windows"):
        read_heard(tmp_path, CODES)
