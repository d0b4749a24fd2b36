"""Identify: what was heard of some windows, what was read, or both → languages. Pure NumPy, no state.

A window's language logits are dot products of the listener's features with one row a language, corrected by one bias
each. Windows are joined by the mean of their log-probabilities, in which sure windows weigh more. What was read joins as
a product of experts: each posterior over its own class mix, bounded, so that neither can shout the other down. A modality
that is missing contributes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.domain import FloatArray, Language, Scores
from app.errors import ReleaseError
from app.families.lrid_voice.manifest import ExpertConfig, IdentifyConfig
from app.families.parts.probabilities import sigmoid, softmax
from app.families.tasks import Bounds, LanguageTask

ROWS, SUNG = "identify.languages", "identify.sung"  # tensors: (n_tokens, n_hidden), (n_hidden,)
_LEAST = 1e-8  # a probability under this counts as this


@dataclass(frozen=True, slots=True)
class WindowScores:
    """n windows, each by itself."""

    log_probabilities: FloatArray  # (n, n_classes) of the language, given that something is sung
    weights: FloatArray  # (n,) in the mean over windows
    sung_logits: FloatArray  # (n,) over 0: something is sung

    def __getitem__(self, windows: slice | npt.NDArray[np.int64]) -> "WindowScores":
        """Some of the windows."""
        return WindowScores(self.log_probabilities[windows], self.weights[windows], self.sung_logits[windows])


class VoiceHead:
    """Identifies for one release. Deterministic, and any number of threads may call."""

    def __init__(self, config: IdentifyConfig, codes: Sequence[str], tensors: Mapping[str, FloatArray]) -> None:
        """`codes`: the classes in order. Raises ReleaseError if config, classes and tensors do not fit each other."""
        self.config, self.codes = config, tuple(codes)
        rows, sung = _tensor(tensors, ROWS, 2), _tensor(tensors, SUNG, 1)
        if rows.shape != (len(config.tokens), len(sung)):
            raise ReleaseError(f"{ROWS} should be ({len(config.tokens)}, {len(sung)}) and is {rows.shape}")
        self._n_hidden = len(sung)
        self._weights = np.ascontiguousarray(np.concatenate([rows * np.float32(config.window_scale), sung[None]]).T)
        biases = [token.bias * config.window_scale for token in config.tokens]
        self._biases = np.array([*biases, config.sung.window_bias], np.float32)
        self._class_of_token = class_of_token(config, self.codes)
        self._log_mixes = {name: _log_mix(expert, self.codes) for name, expert in config.experts.items()}

    def windows(self, features: FloatArray) -> WindowScores:
        """(n, at least n_hidden) → scores of n windows. Only the first n_hidden features are used."""
        scores = features[:, : self._n_hidden].astype(np.float32) @ self._weights + self._biases
        by_token = softmax(scores[:, :-1])
        by_class = np.maximum(by_token @ self._class_of_token, np.float32(_LEAST))
        log_probabilities = np.log(by_class)
        entropies = -(by_class * log_probabilities).sum(axis=1)
        return WindowScores(log_probabilities, np.exp(-self.config.entropy_weight * entropies), scores[:, -1])

    def combine(self, features: FloatArray | None, readings: Mapping[str, FloatArray]) -> Scores:
        """(n, n_features) or None; posteriors (n_classes,) by modality, those that are missing left out."""
        return self.join(self.windows(features) if features is not None and len(features) else None, readings)

    def join(self, windows: WindowScores | None, readings: Mapping[str, FloatArray]) -> Scores:
        """Combine windows that are scored already."""
        if windows is None:
            probabilities = softmax(self._joined(None, readings))
            return Scores(probabilities, np.zeros((0, len(self.codes)), np.float32))
        ears = pooled(windows) * np.float32(self.config.song_scale)
        probabilities = softmax(self._joined(ears, readings))
        unsung = self._unsung(windows, float(softmax(ears).max()))
        return Scores(
            probabilities,
            np.exp(windows.log_probabilities),
            unsung,
            sigmoid(-windows.sung_logits),
            self._shares(windows),
            self._enough(probabilities, ears, unsung, read=bool(readings)),
        )

    def _enough(self, probabilities: FloatArray, ears: FloatArray, unsung: float, *, read: bool) -> bool:
        """Whether listening may stop: the posterior is sure, and the ears by themselves prefer the same language."""
        best = int(probabilities.argmax())
        bound = self.config.stop_bound_read if read else None
        sure = bool(probabilities[best] >= (self.config.stop_bound if bound is None else bound))
        return sure and best == int(ears.argmax()) and unsung < self.config.sung.least_nothing

    def _shares(self, windows: WindowScores) -> FloatArray | None:
        """(n_classes,) shares of the windows that are sung and surely of one language; None unless those are several."""
        several = self.config.several
        sure = windows.log_probabilities >= np.log(max(several.sure, 0.5001))  # at most one a window
        counts = (sure & (windows.sung_logits > 0)[:, None]).sum(axis=0)
        if ((counts >= several.least_windows) & (counts >= several.least_share * counts.sum())).sum() < 2:
            return None
        return np.asarray(counts / counts.sum(), np.float32)

    def _unsung(self, windows: WindowScores, confidence: float) -> float:
        sung = self.config.sung
        logit = sung.song_scale * mean_odds(windows.sung_logits) + sung.confidence_scale * confidence + sung.song_bias
        return float(sigmoid(np.float32(-logit)))

    def _joined(self, ears: FloatArray | None, readings: Mapping[str, FloatArray]) -> FloatArray:
        """(n_classes,) logits of the product of all experts; zeros where there is none.

        Without ears the expert with the largest exponent stands in their place, unbounded: of lyrics and names, the lyrics.
        Only where these alone would be `und` ("oh, oh"), and another one is sure, that one does.
        """
        if unknown := readings.keys() - self.config.experts.keys():
            raise ValueError(f"{min(unknown)!r} is no expert of the release; it has {sorted(self.config.experts)}")
        if ears is not None and not readings:
            return ears
        if ears is None and not readings:
            return np.zeros(len(self.codes), np.float32)
        if ears is not None:
            logits = log(softmax(ears))
        else:
            alone = {name: log(q) * np.float32(self.config.experts[name].alone_exponent) for name, q in readings.items()}
            first = max(alone, key=lambda name: self.config.experts[name].exponent)
            if len(alone) > 1 and softmax(alone[first]).max() < self.config.thresholds.get(first, 0.0):
                sure = (name for name in alone if softmax(alone[name]).max() >= self.config.sure_reading)
                first = next(sure, first)
            logits = alone[first]
            readings = {name: posterior for name, posterior in readings.items() if name != first}
        for name, posterior in readings.items():
            logits = logits + testimony(posterior, self._log_mixes[name], self.config.experts[name])
        return logits


def language_task(languages: Sequence[Language], config: IdentifyConfig) -> LanguageTask:
    """The task that decides by the thresholds of a head."""
    least = {frozenset(mode.split("+")): threshold for mode, threshold in config.thresholds.items()}
    bounds = Bounds(least, most_unsung=config.sung.least_nothing, least_share=config.several.least_share)
    return LanguageTask(languages, bounds)


def testimony(posterior: FloatArray, log_mix: FloatArray, expert: ExpertConfig) -> FloatArray:
    """(..., n_classes) posterior of an expert → what it adds to the logits of the product; at most 0."""
    ratios = log(posterior) - np.float32(expert.mix_exponent) * log_mix
    likelihood = np.exp(ratios - ratios.max(axis=-1, keepdims=True))
    return (expert.exponent * np.log((1 - expert.doubt) * likelihood + expert.doubt)).astype(np.float32)  # type: ignore[no-any-return]


def pooled(windows: WindowScores) -> FloatArray:
    """(n_classes,) weighted mean of the windows' log-probabilities."""
    return windows.weights @ windows.log_probabilities / windows.weights.sum()  # type: ignore[no-any-return]


def mean_odds(logits: FloatArray) -> float:
    """Logarithm of the mean odds of (n,) logits: one window that is surely sung makes a song sung."""
    most = float(logits.max())
    return most + float(np.log(np.exp(logits - most).mean()))


def log(probabilities: FloatArray) -> FloatArray:
    """Natural logarithm, bounded below."""
    return np.log(np.maximum(probabilities, np.float32(_LEAST)))


def class_of_token(config: IdentifyConfig, codes: Sequence[str]) -> FloatArray:
    """(n_tokens, n_classes): 1 where a token counts for a class. Raises ReleaseError on a label that is no class."""
    member = np.zeros((len(config.tokens), len(codes)), np.float32)
    for row, token in enumerate(config.tokens):
        if token.label not in codes:
            raise ReleaseError(f"tokens: {token.code!r} counts for {token.label!r}, which is no class of the release")
        member[row, list(codes).index(token.label)] = 1
    return member


def _log_mix(expert: ExpertConfig, codes: Sequence[str]) -> FloatArray:
    if sorted(expert.class_mix) != sorted(codes) or min(expert.class_mix.values()) <= 0:
        raise ReleaseError("class_mix of an expert should hold a number over 0 for every class of the release")
    return np.log(np.array([expert.class_mix[code] for code in codes], np.float32))


def _tensor(tensors: Mapping[str, FloatArray], name: str, dimensions: int) -> FloatArray:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != dimensions or not np.isfinite(tensor).all():
        raise ReleaseError(f"weights.safetensors: tensor {name!r} should have {dimensions} dimensions and finite values")
    return np.ascontiguousarray(tensor, np.float32)
