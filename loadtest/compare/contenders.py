"""Who takes part: how each is started, and how a clip is sent to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.openloop import audio_post, post_request

EngineName = Literal["stock", "ours", "ours+decoding"]
ENGINES: tuple[EngineName, ...] = ("stock", "ours", "ours+decoding")
OURS = "this service"


@dataclass(frozen=True, slots=True)
class Rival:
    """A server in its own environment. `{port}` in the command is replaced."""

    name: str
    command: tuple[str, ...]  # after python
    requirements: tuple[str, ...] = ()  # of pip, the first that can be installed
    raw_path: str = ""  # takes the bytes as they are, there; otherwise POST /identify takes a form
    settings: tuple[tuple[str, str], ...] = ()  # environment variables


@dataclass(frozen=True, slots=True)
class Contender:
    """A server with one of the engines."""

    rival: Rival
    engine: EngineName

    @property
    def name(self) -> str:
        return self.rival.name if self.rival.name == OURS else f"{self.rival.name}, {self.engine} engine"

    def request(self, clip: bytes) -> bytes:
        """A whole HTTP request."""
        if self.rival.raw_path:
            return post_request(self.rival.raw_path, "application/octet-stream", clip)
        return audio_post(clip)


def _app(name: str) -> tuple[str, ...]:
    return ("-m", f"loadtest.compare.rivals.{name}_app", "--port", "{port}")


def rivals() -> dict[str, Rival]:
    """By the names that the command line knows."""
    return {
        "plain": Rival("FastAPI, plain", _app("plain")),
        "tuned": Rival("FastAPI, tuned", _app("tuned")),
        "litserve": Rival("LitServe", _app("litserve"), ("litserve==0.2.*",)),
        "mosec": Rival(
            "mosec",
            (*_app("mosec"), "--address", "127.0.0.1", "--timeout", "60000", "--log-level", "error"),
            ("mosec==0.9.*",),
            raw_path="/inference",
        ),
        "ray": Rival(
            "Ray Serve",
            _app("ray"),
            ("ray[serve]==2.60.*", "ray[serve]"),
            raw_path="/identify",
            settings=(  # its start is slow on few cores, and by default its workers yield to everything else
                ("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60"),
                ("RAY_worker_niceness", "0"),
            ),
        ),
        "bentoml": Rival(
            "BentoML",
            ("-m", "bentoml", "serve", "loadtest.compare.rivals.bentoml_app:Identify", "--port", "{port}"),
            ("bentoml==1.4.*",),
            settings=(("BENTOML_DO_NOT_TRACK", "True"),),
        ),
    }


def this_service() -> Contender:
    command = ("-m", "app.cli", "serve", "--log-level", "warning", "--port", "{port}")
    return Contender(Rival(OURS, command, settings=(("LRID_DEVICE", "cpu"),)), "ours")


def contenders(names: list[str], engines: Sequence[str] = ENGINES) -> list[Contender]:
    """This service, then every rival with each of the engines."""
    known = rivals()
    return [this_service(), *(Contender(known[name], engine) for name in names for engine in ENGINES if engine in engines)]
