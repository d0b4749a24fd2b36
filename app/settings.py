"""One frozen Settings object; every field is an environment variable `LRID_<NAME>` and carries its unit in its name."""

import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

KeyList = Annotated[tuple[SecretStr, ...], NoDecode]  # comma separated in the environment, not JSON
HASHED = "sha256:"  # begins a key that is given as its digest
HASH_OF_NOTHING = hashlib.sha256().hexdigest()  # what no key at all has
MEGABYTE = 1_000_000  # bytes, in settings that end in `_mb`
REPOSITORY = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """How the server runs. Every description is shown by `lrid serve --help` or in the README's table."""

    model_config = SettingsConfigDict(
        env_prefix="LRID_", frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 picks a free one.")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port of its own for `/metrics` and `/admin`, which `LRID_PORT` then hides."
    )
    admin_host: str = Field("127.0.0.1", min_length=1, description="Address of that port.")
    tls_certificate: Path | None = Field(None, description="Certificate chain, PEM; HTTPS alone is then answered.")
    tls_key: Path | None = Field(None, description="Its private key, PEM.")
    workers: int = Field(1, ge=1, description="Always 1: a server is one process. For more, run replicas behind a balancer.")
    model_store: Path = Field(REPOSITORY / "model_store", description="Folder with `<family>/<release>/`.")
    model: str = Field("lrid_voice/4", description="Release to serve: `family/release`, or `family` for its newest.")
    catalog_prior: str = Field(
        "training",
        description="Class mix that answers are corrected to: `training` (none), `music4all`, `uniform`, or a JSON file of "
        "a number for each code.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes CUDA when there is one.")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto",
        description="Precision of the listener. `auto`: on a CPU `int8` if the release's card shows that its answers agree, "
        "else bf16 if the CPU multiplies it, else fp32; on a GPU bf16 (fp16 on older ones).",
    )
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="What runs the listener on a CPU. `auto`: OpenVINO if it is installed."
    )
    torch_threads: int = Field(0, ge=0, le=256, description="CPU threads of the listener; 0 = one for each core.")

    max_batch_size: int = Field(
        0, ge=0, le=1024, description="Most windows in a batch; 0 = what the device gains from (CPU: its threads, GPU: 64)."
    )
    batch_wait_ms: float = Field(0.0, ge=0, le=1000, description="Wait for more windows before an idle device starts.")
    queue_max_items: int = Field(256, ge=1, description="Windows that may wait for the device.")
    queue_max_seconds: float = Field(
        8.0, gt=0, description="What the tracks in progress may still take, at the measured rate, when another is accepted."
    )
    queue_max_audio_seconds: float = Field(7680.0, gt=0, description="Seconds of audio that may wait for the device.")
    request_timeout_seconds: float = Field(
        60.0, gt=0, le=3600, description="Deadline of a request; `X-Request-Timeout` sets another, up to this value."
    )
    device_timeout_seconds: float = Field(
        60.0, gt=0, description="A pass through the listener that takes longer counts as hung; the engine is restarted."
    )
    drain_delay_seconds: float = Field(
        0.0, ge=0, le=600, description="After SIGTERM: keep accepting for so long while /health/ready says 503 already."
    )
    drain_timeout_seconds: float = Field(30.0, gt=0, description="After that: bound for finishing what was accepted.")

    max_upload_mb: float = Field(64.0, gt=0, description="Largest body, in 10^6 bytes.")
    uploads_max_mb: float = Field(
        1024.0, gt=0, description="Audio that all requests together may hold, from upload to answer, in 10^6 bytes."
    )
    max_audio_seconds: float = Field(1800.0, gt=0, description="Longest track that is accepted.")
    max_windows: int = Field(
        64, ge=1, le=256, description="Most windows of one track, whatever is asked; they are spread over a longer one."
    )
    max_metadata_characters: int = Field(1000, ge=1, description="Longest title, album or artist.")
    silence_dbfs: float = Field(-60.0, le=0, description="Peak level under which audio counts as silent.")
    decode_queue_max: int = Field(64, ge=1, description="Files that may be decoding or waiting for a decoder.")
    decode_workers: int = Field(2, ge=1, le=64, description="Processes that decode audio.")
    decode_timeout_seconds: float = Field(20.0, gt=0, description="Time limit for decoding one file.")
    decode_memory_mb: int = Field(1024, ge=256, description="Address space each decoding process may add to its own.")

    api_keys: KeyList = Field(
        (), description="Keys that may ask, separated by commas, each as it is or as `sha256:HEX`; none: everyone may."
    )
    admin_keys: KeyList = Field((), description="Keys for `/admin`, written likewise; none: nobody may.")
    public_paths: str = Field(
        "/health,/v2/health,/metrics,/,/web,/docs,/openapi.json",
        description="Paths that need no key even when there are keys.",
    )
    requests_per_minute: float = Field(0.0, ge=0, description="Rate limit of each key; 0 = none.")
    cors_origins: str = Field(
        "",
        description="Origins whose pages may ask, such as `https://example.org`, separated by commas; `*`: all.",
    )

    feedback_file: Path | None = Field(
        None, description="Where POST /feedback appends corrections, as JSON lines; none: nothing is collected."
    )
    feedback_max_mb: float = Field(100.0, gt=0, description="Size at which that file takes no more, in 10^6 bytes.")
    feedback_names: bool = Field(False, description="Store title, album and artist with corrections as well.")

    telemetry: bool = Field(
        False,
        description="Send OpenTelemetry spans by OTLP/HTTP to where `OTEL_*` variables say; needs the extra `telemetry`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line shown.")

    @field_validator("workers")
    @classmethod
    def _one_process(cls, workers: int) -> int:
        if workers > 1:
            raise ValueError(
                f"LRID_WORKERS={workers} is not supported: a server is one process for all cores. Run replicas behind a "
                "load balancer instead: several containers (compose), `replicas` (Kubernetes, see app/ops), or Ray Serve"
            )
        return workers

    @field_validator("api_keys", "admin_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        keys = [key.strip() for key in value.split(",") if key.strip()]
        if value.strip() and not keys:
            raise ValueError("there is no key between the commas; leave it empty for none")
        return keys

    @field_validator("model_store", "tls_certificate", "tls_key", "feedback_file", mode="before")
    @classmethod
    def _file_is_named(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError("it is empty; name a file, or leave the setting out")
        return value

    @field_validator("api_keys", "admin_keys")
    @classmethod
    def _hashes_are_whole(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        given = [key.get_secret_value() for key in keys]
        if not all(re.fullmatch("[0-9a-fA-F]{64}", key.removeprefix(HASHED)) for key in given if key.startswith(HASHED)):
            raise ValueError("a hashed key is `sha256:` and 64 hexadecimal digits, as by: printf %s KEY | sha256sum")
        if HASHED + HASH_OF_NOTHING in [key.lower() for key in given]:
            raise ValueError("a hashed key is that of nothing, which every request without a key would match")
        return keys

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_whole(cls, origins: str) -> str:
        if not re.fullmatch(r"\s*((\*|null|https?://[^\s/,]+/?)\s*(,\s*|$))*", origins):
            raise ValueError("expected origins such as https://example.org, separated by commas, or `*`")
        return origins

    @field_validator("telemetry")
    @classmethod
    def _telemetry_is_installed(cls, wanted: bool) -> bool:
        if wanted and not _is_installed("opentelemetry.exporter.otlp.proto.http"):
            raise ValueError("not installed: python -m pip install 'lrid-serve[telemetry]'")
        return wanted

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("LRID_TLS_CERTIFICATE and LRID_TLS_KEY go together: set both or none")
        if self.max_upload_mb > self.uploads_max_mb:
            raise ValueError(
                f"LRID_MAX_UPLOAD_MB={self.max_upload_mb:g} must not exceed LRID_UPLOADS_MAX_MB={self.uploads_max_mb:g}: "
                "the largest upload could never be held"
            )
        if self.max_windows > self.queue_max_items:
            raise ValueError(
                f"LRID_MAX_WINDOWS={self.max_windows} must not exceed LRID_QUEUE_MAX_ITEMS={self.queue_max_items}: "
                "a track with that many windows could never be queued"
            )
        return self


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is what contains it
        return False
