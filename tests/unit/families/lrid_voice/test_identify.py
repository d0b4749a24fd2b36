"""The head of `lrid_voice` on features made for the test: four directions that stand for three languages and singing."""

import time

import numpy as np
import pytest
from pydantic import ValidationError

from app.domain import FloatArray, Language, Scores
from app.errors import ReleaseError
from app.families.lrid_voice.identify import ROWS, SUNG, VoiceHead, language_task, mean_odds
from app.families.lrid_voice.manifest import (
    ExpertConfig,
    IdentifyConfig,
    LanguageToken,
    SeveralConfig,
    SungConfig,
)
from app.families.tasks import View

CODES = ("en", "sh", "others")
EN, SR, HR, LA, SINGING = range(5)  # directions of the features


def config(**changes: object) -> IdentifyConfig:
    settings: dict[str, object] = {
        "tokens": [
            LanguageToken(code="en", label="en", bias=0.0),
            LanguageToken(code="sr", label="sh", bias=0.0),
            LanguageToken(code="hr", label="sh", bias=0.0),
            LanguageToken(code="la", label="others", bias=-2.0),
        ],
        "window_scale": 1.0,
        "entropy_weight": 1.5,
        "song_scale": 1.0,
        "stop_bound": 0.9,
        "sung": SungConfig(window_bias=-1.0, song_scale=1.0, confidence_scale=1.0, song_bias=0.0),
        "several": SeveralConfig(sure=0.8, least_share=0.25, least_windows=2),
        "experts": {
            "text": ExpertConfig(exponent=1.0, doubt=0.05, class_mix={"en": 0.8, "sh": 0.1, "others": 0.1}),
            "lyrics": ExpertConfig(exponent=1.0, doubt=0.01, class_mix={"en": 0.4, "sh": 0.3, "others": 0.3}),
        },
        "thresholds": {"audio": 0.6, "audio+text": 0.6, "text": 0.7},
    }
    return IdentifyConfig.model_validate(settings | changes)


def head(**changes: object) -> VoiceHead:
    rows = np.eye(5, dtype=np.float32)[:4]
    return VoiceHead(config(**changes), CODES, {ROWS: rows, SUNG: np.eye(5, dtype=np.float32)[SINGING]})


def decision(scores: Scores, mode: str = "audio", **changes: object) -> str:
    task = language_task([Language(code, None, code) for code in CODES], config(**changes))
    return str(task.answer(scores, frozenset(mode.split("+")), View())["language"])


def window(*, singing: float = 4.0, **logits: float) -> FloatArray:
    """One window's features, with the two that the head does not use."""
    values = [logits.get(name, 0.0) for name in ("en", "sr", "hr", "la")]
    return np.array([*values, singing, 15.0, -20.0], np.float32)


def posterior(*values: float) -> FloatArray:
    return np.array(values, np.float32)


def test_tokens_of_one_class_are_summed() -> None:
    scores = head().windows(window(en=1.0, sr=1.0, hr=1.0)[None])
    likely = np.exp(scores.log_probabilities[0])
    assert likely[1] == pytest.approx(2 * likely[0], rel=1e-5)
    assert likely.sum() == pytest.approx(1, rel=1e-5)


def test_a_bias_is_added_to_its_logit() -> None:
    scores = head().windows(window(en=0.0, la=2.0)[None])
    likely = np.exp(scores.log_probabilities[0])
    assert likely[2] == pytest.approx(likely[0], rel=1e-5)


def test_sure_windows_weigh_more() -> None:
    unsure, sure = window(en=0.4), window(sr=9.0)
    features = np.stack([unsure, unsure, sure])
    weights = head().windows(features).weights
    assert weights[2] > 3 * weights[0]
    assert decision(head().combine(features, {})) == "sh"


def test_the_order_of_windows_does_not_matter() -> None:
    features = np.stack([window(en=3.0), window(sr=2.0), window(en=1.0)])
    one, other = head().combine(features, {}), head().combine(features[::-1], {})
    np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-5)


def test_no_windows_is_no_audio() -> None:
    reading = {"text": posterior(0.2, 0.7, 0.1)}
    one, other = head().combine(np.zeros((0, 7), np.float32), reading), head().combine(None, reading)
    assert one.windows.shape == other.windows.shape == (0, 3)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_names_alone_are_the_readers_posterior() -> None:
    combined = head().combine(None, {"text": posterior(0.2, 0.75, 0.05)})
    np.testing.assert_allclose(combined.probabilities, [0.2, 0.75, 0.05], rtol=1e-5)
    assert (decision(combined, "text"), combined.unsung, combined.windows_unsung) == ("sh", 0.0, None)


def test_names_without_information_change_nothing() -> None:
    features = np.stack([window(en=1.0), window(sr=2.0)])
    mix = posterior(0.8, 0.1, 0.1)
    np.testing.assert_allclose(
        head().combine(features, {"text": mix}).probabilities, head().combine(features, {}).probabilities, rtol=1e-4
    )


def test_names_count_over_their_class_mix() -> None:
    """English is what the reader mostly says: 0.8 for it is no evidence, 0.2 for a rare class is."""
    features = window(en=1.0, sr=0.6)[None]
    combined = head().combine(features, {"text": posterior(0.78, 0.2, 0.02)})
    assert combined.probabilities[1] > head().combine(features, {}).probabilities[1]


def test_foreign_names_do_not_shout_down_sure_ears() -> None:
    features = np.stack([window(en=8.0), window(en=9.0)])
    combined = head().combine(features, {"text": posterior(1e-7, 1.0, 1e-7)})
    assert decision(combined, "audio+text") == "en"


def test_sure_names_need_ears_that_agree() -> None:
    sure = {"text": posterior(0.001, 0.998, 0.001)}
    assert head(stop_bound=0.85).combine(window(sr=1.5)[None], sure).enough
    against = head(stop_bound=0.5).combine(window(en=1.5)[None], sure)
    assert against.probabilities[1] > 0.5
    assert not against.enough


def test_with_something_read_listening_may_have_a_bound_of_its_own() -> None:
    sure, heard = {"text": posterior(0.001, 0.998, 0.001)}, window(sr=1.5)[None]
    probability = head().combine(heard, sure).probabilities[1]
    assert head(stop_bound=0.1, stop_bound_read=float(probability) - 0.01).combine(heard, sure).enough
    stricter = head(stop_bound=0.1, stop_bound_read=float(probability) + 0.01)
    assert not stricter.combine(heard, sure).enough
    assert stricter.combine(heard, {}).enough


def test_listening_stops_when_the_posterior_is_sure() -> None:
    assert head().combine(window(en=9.0)[None], {}).enough
    assert not head().combine(window(en=0.5)[None], {}).enough


def test_any_number_of_experts_join() -> None:
    readings = {"text": posterior(0.3, 0.5, 0.2), "lyrics": posterior(0.1, 0.85, 0.05)}
    combined = head().combine(window(en=0.5)[None], readings)
    assert combined.probabilities.argmax() == 1
    assert head().combine(None, readings).probabilities.sum() == pytest.approx(1, rel=1e-5)


def test_an_unknown_expert_is_refused() -> None:
    with pytest.raises(ValueError, match="'listeners' is no expert"):
        head().combine(None, {"listeners": posterior(0.3, 0.5, 0.2)})


def test_nothing_sung_is_zxx_and_never_stops_early() -> None:
    features = np.stack([window(singing=-6.0, en=0.2)] * 3)
    scores = head(stop_bound=0.0).combine(features, {})
    assert (decision(scores), scores.unsung > 0.9, scores.enough) == ("zxx", True, False)
    assert scores.windows_unsung is not None
    assert (scores.windows_unsung > 0.9).all()


def test_one_sung_window_makes_a_song() -> None:
    features = np.stack([window(singing=-6.0)] * 5 + [window(singing=6.0, en=6.0)])
    assert decision(head().combine(features, {})) == "en"


def test_unsure_is_und() -> None:
    scores = head().combine(window(en=0.9)[None], {})
    assert decision(scores) == "und"
    assert decision(scores, thresholds={"audio": 0.3}) == "en"


@pytest.mark.parametrize(("foreign", "wanted"), [(0, "en"), (1, "en"), (2, "mul"), (4, "mul")])
def test_several_languages_with_their_shares(foreign: int, wanted: str) -> None:
    features = np.stack([window(en=8.0)] * 4 + [window(sr=8.0)] * foreign + [window(singing=-6.0, la=9.0)] * 3)
    scores = head().combine(features, {})
    assert decision(scores) == wanted
    if scores.shares is not None:
        np.testing.assert_allclose(scores.shares, [4 / (4 + foreign), foreign / (4 + foreign), 0], rtol=1e-5)


def test_mean_odds_of_large_logits_do_not_overflow() -> None:
    assert mean_odds(np.array([500.0, -500.0], np.float32)) == pytest.approx(500 - np.log(2))


def test_names_alone_take_less_than_a_fifth_of_a_millisecond() -> None:
    reader, reading = head(), {"text": posterior(0.2, 0.7, 0.1)}
    seconds = []
    for _ in range(200):
        begin = time.perf_counter()
        reader.combine(None, reading)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.0002


@pytest.mark.parametrize(
    ("rows", "sung", "message"),
    [
        (np.zeros((3, 5)), np.zeros(5), "should be"),
        (np.zeros((4, 6)), np.zeros(5), "should be"),
        (np.full((4, 5), np.nan), np.zeros(5), "finite"),
        (np.zeros((4, 5)), np.zeros((5, 1)), "dimensions"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(rows: FloatArray, sung: FloatArray, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        VoiceHead(config(), CODES, {ROWS: rows, SUNG: sung})


def test_a_missing_tensor_is_refused_by_name() -> None:
    with pytest.raises(ReleaseError, match=ROWS):
        VoiceHead(config(), CODES, {SUNG: np.zeros(5, np.float32)})


def test_classes_that_do_not_fit_are_refused() -> None:
    tensors = {ROWS: np.zeros((4, 5), np.float32), SUNG: np.zeros(5, np.float32)}
    with pytest.raises(ReleaseError, match="'la' counts for 'others'"):
        VoiceHead(config(), ("en", "sh"), tensors)
    with pytest.raises(ReleaseError, match="class_mix"):
        VoiceHead(config(), (*CODES, "de"), tensors)


def test_thresholds_are_of_modes() -> None:
    with pytest.raises(ValidationError, match="is no mode"):
        config(thresholds={"text+audio": 0.5})
    with pytest.raises(ValidationError, match="is no mode"):
        config(thresholds={"smell": 0.5})
