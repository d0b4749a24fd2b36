"""Identification → the public JSON: ranking, candidates, the threshold, the timeline."""

from __future__ import annotations

import numpy as np

from app.domain import UNDETERMINED, FloatArray, Identification, Metadata
from app.errors import UnknownLanguage
from app.families.contract import Manifest
from app.http.schemas import (
    AudioUse,
    Explanation,
    IdentifyResponse,
    LanguageProbability,
    Modalities,
    Moment,
    Options,
    ReleaseName,
    TextUse,
    Timing,
)


class Ranking:
    """Puts probabilities in logit order into ranked lists, under one request's options."""

    def __init__(self, manifest: Manifest, options: Options) -> None:
        """Raises UnknownLanguage when a candidate is not a class of the release."""
        self._languages = manifest.languages
        self._top_k = options.top_k
        codes = [language.code for language in self._languages]
        candidates = options.languages or codes
        if unknown := [code for code in candidates if code not in codes]:
            raise UnknownLanguage(f"{unknown[0][:40]!r} is not among {', '.join(codes)}")
        self._rows = [i for i, code in enumerate(codes) if code in candidates]

    def rank(self, probabilities: FloatArray) -> list[LanguageProbability]:
        """(n_classes,) → candidates best first, renormalised over the candidates, all kept."""
        raw = probabilities.astype(np.float64)
        total = float(raw[self._rows].sum())
        shares = raw / total if total > 0 else np.full_like(raw, 1 / len(self._rows))
        order = sorted(self._rows, key=lambda i: (-raw[i], i))
        return [
            LanguageProbability(
                code=self._languages[i].code,
                iso639_3=self._languages[i].iso639_3,
                name=self._languages[i].name,
                probability=round(float(shares[i]), 6),
                raw_probability=round(float(raw[i]), 6),
            )
            for i in order
        ]

    def cut(self, ranked: list[LanguageProbability]) -> list[LanguageProbability]:
        """The best `top_k`."""
        return ranked[: self._top_k]


def build_response(
    identified: Identification, metadata: Metadata, manifest: Manifest, options: Options, ranking: Ranking
) -> IdentifyResponse:
    """The whole answer."""
    ranked = ranking.rank(identified.probabilities.mean)
    return IdentifyResponse(
        language=decide(ranked, identified.threshold),
        probability=ranked[0].probability,
        languages=ranking.cut(ranked),
        modalities=_modalities(identified, metadata),
        timeline=_timeline(identified, ranking) if options.timeline else None,
        explanation=_explanation(identified, ranking) if options.explain else None,
        model=release_name(manifest),
        timing_ms=_timing(identified.seconds_by_stage),
    )


def decide(ranked: list[LanguageProbability], threshold: float) -> str:
    """The best class, or `und` under the threshold."""
    return ranked[0].code if ranked[0].probability >= threshold else UNDETERMINED


def release_name(manifest: Manifest) -> ReleaseName:
    return ReleaseName(family=manifest.family, release=manifest.release, sha256=manifest.sha256)


def _modalities(identified: Identification, metadata: Metadata) -> Modalities:
    recording = identified.recording
    return Modalities(
        audio=AudioUse(
            used=identified.audio.used,
            seconds=None if recording is None else round(recording.seconds, 3),
            windows=0 if recording is None else len(recording.windows),
            reason=identified.audio.reason,
        ),
        text=TextUse(used=identified.text.used, fields=list(metadata.fields), reason=identified.text.reason),
    )


def _timeline(identified: Identification, ranking: Ranking) -> list[Moment]:
    if identified.recording is None:
        return []
    moments = []
    for window, row in zip(identified.recording.windows, identified.probabilities.windows, strict=True):
        ranked = ranking.rank(row)
        moments.append(
            Moment(
                start_seconds=round(window.start_seconds, 3),
                seconds=round(window.seconds, 3),
                language=decide(ranked, identified.threshold),
                probability=ranked[0].probability,
                languages=ranking.cut(ranked),
            )
        )
    return moments


def _explanation(identified: Identification, ranking: Ranking) -> Explanation:
    def ranked(probabilities: FloatArray | None) -> list[LanguageProbability] | None:
        return None if probabilities is None else ranking.cut(ranking.rank(probabilities))

    return Explanation(audio_only=ranked(identified.audio_only), text_only=ranked(identified.text_only))


def _timing(seconds: dict[str, float]) -> Timing:
    names = ("decode", "read", "queue", "model", "total")
    return Timing(**{name: round(seconds.get(name, 0.0) * 1000, 3) for name in names})
