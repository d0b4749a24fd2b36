"""Identification → the public JSON: ranking, candidates, the threshold, the timeline.

An answer is made of plain dicts: models cost ten times as much. Its form is `IdentifyResponse` all the same: a test
validates answers of every kind against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain import UNDETERMINED, FloatArray, Identification, Metadata
from app.errors import UnknownLanguage
from app.families.contract import Manifest
from app.http.schemas import Options, ReleaseName, Timing

Json = dict[str, Any]
STAGES = tuple(Timing.model_fields)


class Ranking:
    """Puts probabilities in logit order into ranked lists, under one request's options."""

    def __init__(self, manifest: Manifest, options: Options) -> None:
        """Raises UnknownLanguage when a candidate is not a class of the release."""
        self._languages = manifest.languages
        self._top_k = options.top_k
        self._rows = range(len(self._languages)) if options.languages is None else self._candidates(options.languages)

    def _candidates(self, wanted: tuple[str, ...]) -> list[int]:
        codes = [language.code for language in self._languages]
        if unknown := [code for code in wanted if code not in codes]:
            raise UnknownLanguage(f"{unknown[0][:40]!r} is not among {', '.join(codes)}")
        return [i for i, code in enumerate(codes) if code in wanted]

    def rank(self, probabilities: FloatArray) -> list[Json]:
        """(n_classes,) → candidates best first, renormalised over the candidates, all kept. As LanguageProbability."""
        raw: list[float] = probabilities.tolist()
        total = sum([raw[i] for i in self._rows])
        return [
            {
                "code": language.code,
                "iso639_3": language.iso639_3,
                "name": language.name,
                "probability": round(raw[i] / total if total > 0 else 1 / len(self._rows), 6),
                "raw_probability": round(raw[i], 6),
            }
            for i in sorted(self._rows, key=raw.__getitem__, reverse=True)  # stable: ties in the release's order
            for language in (self._languages[i],)
        ]

    def cut(self, ranked: list[Json]) -> list[Json]:
        """The best `top_k`."""
        return ranked[: self._top_k]


def build_response(
    identified: Identification, metadata: Metadata, manifest: Manifest, options: Options, ranking: Ranking
) -> Json:
    """The whole answer, as IdentifyResponse."""
    ranked = ranking.rank(identified.probabilities.mean)
    seconds = identified.seconds_by_stage
    return {
        "language": decide(ranked, identified.threshold, identified.language_thresholds),
        "probability": ranked[0]["probability"],
        "languages": ranking.cut(ranked),
        "modalities": _modalities(identified, metadata),
        "timeline": _timeline(identified, ranking) if options.timeline else None,
        "explanation": _explanation(identified, ranking) if options.explain else None,
        "model": {"family": manifest.family, "release": manifest.release, "sha256": manifest.sha256},
        "timing_ms": {stage: round(seconds.get(stage, 0.0) * 1000, 3) for stage in STAGES},
    }


def decide(ranked: list[Json], threshold: float, by_language: Mapping[str, float]) -> str:
    """The best class, or `und` under its own threshold, or where it has none under the one of all."""
    best = ranked[0]
    code: str = best["code"]
    return code if best["probability"] >= by_language.get(code, threshold) else UNDETERMINED


def release_name(manifest: Manifest) -> ReleaseName:
    return ReleaseName(family=manifest.family, release=manifest.release, sha256=manifest.sha256)


def _modalities(identified: Identification, metadata: Metadata) -> Json:
    recording, audio, text = identified.recording, identified.audio, identified.text
    return {
        "audio": {
            "used": audio.used,
            "seconds": None if recording is None else round(recording.seconds, 3),
            "windows": 0 if recording is None else len(recording.windows),
            "reason": audio.reason,
        },
        "text": {"used": text.used, "fields": list(metadata.fields), "reason": text.reason},
    }


def _timeline(identified: Identification, ranking: Ranking) -> list[Json]:
    """As Moment."""
    if identified.recording is None:
        return []
    moments = []
    for window, row in zip(identified.recording.windows, identified.probabilities.windows, strict=True):
        ranked = ranking.rank(row)
        moments.append(
            {
                "start_seconds": round(window.start_seconds, 3),
                "seconds": round(window.seconds, 3),
                "language": decide(ranked, identified.threshold, identified.language_thresholds),
                "probability": ranked[0]["probability"],
                "languages": ranking.cut(ranked),
            }
        )
    return moments


def _explanation(identified: Identification, ranking: Ranking) -> Json:
    def ranked(probabilities: FloatArray | None) -> list[Json] | None:
        return None if probabilities is None else ranking.cut(ranking.rank(probabilities))

    return {"audio_only": ranked(identified.audio_only), "text_only": ranked(identified.text_only)}
