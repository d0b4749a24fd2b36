"""Every number an operator can watch. One registry per server, so that two servers can live in one process, as in tests."""

import math
from collections.abc import Mapping
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from app.serving.expected import Expected

STAGES = ("decode", "read", "queue", "model", "total")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Metrics:
    """Names and help texts are part of the public face: README lists them, a test compares."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        counter, gauge, histogram = partial(Counter, registry=r), partial(Gauge, registry=r), partial(Histogram, registry=r)
        self.requests = counter(
            "lrid_requests_total",
            "Requests to /identify by modalities given (audio, text, both, none) and outcome (ok or error code).",
            ["modalities", "outcome"],
        )
        self.stage_seconds = histogram(
            "lrid_stage_seconds", "Seconds spent by stage: decode, read, queue, model, total.", ["stage"], buckets=_SECONDS
        )
        self.batch_size = histogram("lrid_batch_size", "Windows in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
        self.queue_items = gauge("lrid_queue_items", "Windows waiting for the device.")
        self.queue_audio_seconds = gauge("lrid_queue_audio_seconds", "Seconds of audio waiting for the device.")
        self.in_flight = gauge("lrid_in_flight_requests", "Requests to /identify being worked on.")
        self.upload_bytes = gauge("lrid_upload_bytes", "Bytes of audio that requests hold, from upload to answer.")
        self.decoding = gauge("lrid_decoding_requests", "Files being decoded or waiting for a decoder.")
        self.decode_failures = counter(
            "lrid_decode_failures_total", "Audio that could not be used, by error code.", ["reason"]
        )
        self.dropped_windows = counter(
            "lrid_dropped_windows_total",
            "Windows dropped before reaching the device: the client left or the deadline passed.",
        )
        self.device_restarts = counter(
            "lrid_device_restarts_total", "Times the device thread died or hung and was replaced."
        )
        self.predictions = counter(
            "lrid_predictions_total", "Answers by language; und where the release abstained.", ["language"]
        )
        self.confidence = histogram("lrid_confidence", "Probability of the best language.", buckets=_PROBABILITIES)
        self.release_share = gauge(
            "lrid_release_share",
            "Share of answers by language that the release's own figures lead to expect; und among them.",
            ["language"],
        )
        self.release_confidence = gauge(
            "lrid_release_confidence", "Mean of lrid_confidence to expect likewise; NaN if unknown."
        )
        self.model_info = gauge(
            "lrid_model_info",
            "Always 1; the labels name the release being served.",
            ["family", "release", "sha256", "device", "precision"],
        )
        self.ready = gauge("lrid_ready", "1 while the server accepts work, else 0.")
        for stage in STAGES:
            self.stage_seconds.labels(stage)  # at 0 until then
        self._child = cache(lambda metric, *labels: metric.labels(*labels))  # which is slow
        self._release: tuple[str, ...] | None = None  # labels of the one that model_info names

    def observe_stages(self, seconds_by_stage: Mapping[str, float], trace_id: str | None = None) -> None:
        """Count the stages of one answered request; its trace is the exemplar of the buckets they fall into."""
        exemplar = None if trace_id is None else {"trace_id": trace_id}
        for stage, seconds in seconds_by_stage.items():
            self._child(self.stage_seconds, stage).observe(seconds, exemplar)

    def count_request(self, modalities: str, outcome: str) -> None:
        """One request to /identify has ended."""
        self._child(self.requests, modalities, outcome).inc()

    def count_answer(self, language: str, probability: float) -> None:
        """One answer: the language, or und, and the probability of the best one."""
        self._child(self.predictions, language).inc()
        self.confidence.observe(probability)

    def expect(self, expected: Expected | None) -> None:
        """Set the answers expected of the release that is served from now on; None if unknown."""
        self.release_share.clear()
        self.release_confidence.set(math.nan if expected is None else expected.confidence)
        for language, share in ({} if expected is None else expected.shares).items():
            self.release_share.labels(language).set(share)
            self._child(self.predictions, language)  # at 0 until then: rules that compare both find every language

    def name_release(self, *labels: str) -> None:
        """The release that is served from now on, by the labels of `model_info`."""
        if self._release not in (None, labels):
            self.model_info.remove(*self._release)
        self._release = labels
        self.model_info.labels(*labels).set(1)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their media type: OpenMetrics, with exemplars, where `accept` has it, else Prometheus text."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type
