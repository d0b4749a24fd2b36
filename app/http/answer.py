"""Identification → the public JSON, of plain dicts as in `app.families.tasks`."""

from app.domain import AUDIO, TEXT
from app.families.contract import Manifest
from app.families.tasks import Json, View
from app.http.schemas import ReleaseName, Timing
from app.serving.identification import Identification
from app.serving.options import Options

STAGES = tuple(Timing.model_fields)


def view_of(options: Options, *, written: bool = False) -> View:
    """Which part of the answer the client wants."""
    return View(options.top_k, options.languages, written)


def build_response(identified: Identification, *, written: bool = False) -> Json:
    """The whole answer. `written`: for orjson alone, see `View`."""
    model, options, seconds = identified.model, identified.options, identified.seconds_by_stage
    view = view_of(options, written=written)
    manifest = model.manifest
    return {
        **model.task.answer(identified.scores, identified.mode, view),
        "modalities": _modalities(identified),
        "timeline": _timeline(identified, view) if options.timeline else None,
        "explanation": _explanation(identified, view) if options.explain else None,
        "model": {"family": manifest.family, "release": manifest.release, "sha256": manifest.sha256},
        "timing_ms": {stage: round(seconds.get(stage, 0.0) * 1000, 3) for stage in STAGES},
    }


def release_name(manifest: Manifest) -> ReleaseName:
    return ReleaseName(family=manifest.family, release=manifest.release, sha256=manifest.sha256)


def _modalities(identified: Identification) -> Json:
    found = identified.modalities
    uses: Json = {name: {"used": use.used, "reason": use.reason} for name, use in found.items()}
    for name in uses.keys() - {AUDIO, TEXT}:
        uses[name]["source"] = found[name].source
    uses[AUDIO] |= _heard(identified)
    metadata = identified.track.metadata
    fields, source = metadata.fields, identified.source(TEXT) if metadata.fields else None
    values = {name: getattr(metadata, name) for name in fields} if source == "tags" else None
    uses[TEXT] |= {"fields": list(fields), "source": source, "values": values}
    return uses


def _heard(identified: Identification) -> Json:
    if identified.recording is None:
        return {"seconds": None, "windows": 0, "sung_windows": None, "warnings": []}
    unsung = identified.scores.windows_unsung
    warnings = [{"code": w.code, "detail": w.detail, "at_seconds": w.at_seconds} for w in identified.warnings]
    return {
        "seconds": round(identified.recording.seconds, 3),
        "windows": len(identified.windows),
        "sung_windows": None if unsung is None else int((unsung < 0.5).sum()),
        "warnings": warnings,
    }


def _timeline(identified: Identification, view: View) -> list[Json]:
    """As Moment, in order of time."""
    if identified.recording is None:
        return []
    moments = identified.model.task.moments(identified.scores, identified.mode, view)
    timed = [
        {"start_seconds": round(span.start_seconds, 3), "seconds": round(span.seconds, 3), **moment}
        for span, moment in zip(identified.windows, moments, strict=True)
    ]
    return sorted(timed, key=lambda moment: moment["start_seconds"])


def _explanation(identified: Identification, view: View) -> Json:
    """The answer by each modality alone; null where it was not used."""
    alone, task = identified.alone, identified.model.task
    return {f"{name}_only": task.ranked(alone[name], view) if name in alone else None for name in identified.modalities}
