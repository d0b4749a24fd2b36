"""This service beside faster-whisper and a plain handler, on songs: `python -m loadtest.compare --field --help`.

    python -m loadtest.compare --field --songs FOLDER --faster-whisper MODEL_DIR --python FIELD_ENVIRONMENT/bin/python

FOLDER holds audio files and `index.csv` with the columns `file` and `language`; songs without singing (`zxx`) are left
out, because not every server has such an answer. MODEL_DIR: `python -m loadtest.compare.faster_whisper_model`. All servers
are asked over HTTP by the same client with the same bytes, and none reads the files' tags. They run side by side and are
asked in turns, in another order each round, so that other work on the machine falls on all of them; ratios are medians over
rounds.
"""

import argparse
import asyncio
import contextlib
import csv
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.lab.markdown import table
from app.settings import Settings
from loadtest.client import BOUNDARY, Connections, Reply, form, percentile, post_request
from loadtest.servers import SERVE, Server, machine, say, server

OURS, FASTER_WHISPER, PLAIN = "this service", "faster-whisper", "FastAPI, plain"
REQUIRED, AIM = 3.0, 6.0  # times faster-whisper's songs a second
# One code for what one of the servers tells apart and another does not.
SAME = {"nn": "no", "nb": "no", "hr": "sh", "sr": "sh", "bs": "sh", "yue": "zh", "jw": "jv"}


@dataclass(frozen=True, slots=True)
class Song:
    request: bytes
    language: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Holds what one server did in one round with one number of clients."""

    songs_per_second: float
    cpu_ms: float  # of all the server's processes for one song
    delays_ms: tuple[float, ...]


@dataclass(slots=True)
class Contender:
    name: str
    running: Server
    right: int = 0
    undetermined: int = 0
    sent: int = 0
    turns: dict[int, list[Turn]] = field(default_factory=dict)  # by number of clients

    async def hear_all(self, songs: Sequence[Song]) -> None:
        """Every song once, two at a time: counts right answers, and warms up."""
        room = asyncio.Semaphore(2)
        async with Connections(self.running.port) as connections:

            async def answer(song: Song) -> Reply:
                async with room:
                    return await connections.exchange(song.request)

            replies = await asyncio.gather(*(answer(song) for song in songs))
        for song, reply in zip(songs, replies, strict=True):
            if reply.status != 200:
                say(f"{self.name}: status {reply.status} for a song in {song.language!r}")
                continue
            self.right += best_language(reply) == SAME.get(song.language, song.language)
            self.undetermined += reply.json().get("language") == "und"

    async def take_turn(self, songs: Sequence[Song], clients: int, seconds: float) -> None:
        """A closed loop: each client sends the next song as soon as it has an answer."""
        delays_ms: list[float] = []
        before, began = self.running.cpu_seconds, time.perf_counter()

        async def client(connections: Connections) -> None:
            while time.perf_counter() < began + seconds:
                song = songs[self.sent % len(songs)]
                self.sent += 1
                reply, took = await connections.timed(song.request)
                if reply.status == 200:
                    delays_ms.append(1e3 * took)

        async with Connections(self.running.port) as connections:
            await asyncio.gather(*(client(connections) for _ in range(clients)))
        took = time.perf_counter() - began  # until the last answer
        n = max(len(delays_ms), 1)
        turn = Turn(len(delays_ms) / took, 1e3 * (self.running.cpu_seconds - before) / n, tuple(delays_ms))
        self.turns.setdefault(clients, []).append(turn)
        say(f"{self.name}, {_clients(clients)}: {turn.songs_per_second:.2f} songs/s, {turn.cpu_ms:.0f} ms of CPU each")


def best_language(reply: Reply) -> str:
    """The most probable language, even if the service is not sure enough to answer with it."""
    answer = reply.json()
    if "language" not in answer:  # the plain handler gives probabilities by language
        code = str(max(answer, key=answer.get))
    else:
        code = str(answer["languages"][0]["code"] if answer["language"] == "und" else answer["language"])
    return SAME.get(code, code)


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    songs, clients = read_songs(options.songs), [int(number) for number in options.clients.split(",")]
    started = f"load average at the start {os.getloadavg()[0]:.1f}"
    with contextlib.ExitStack() as stack:
        everyone = [_start(stack, name, options) for name in (OURS, FASTER_WHISPER, PLAIN)]
        for contender in everyone:
            asyncio.run(contender.hear_all(songs))
        for number in range(options.rounds):
            for n in clients:
                turn = number % len(everyone)
                for contender in everyone[turn:] + everyone[:turn]:
                    asyncio.run(contender.take_turn(songs, n, options.seconds))
    print(report(everyone, len(songs)))
    print(f"- {options.model}; {options.rounds} round(s) of {options.seconds:g} s; {machine()}, {started}")


def _start(stack: contextlib.ExitStack, name: str, options: argparse.Namespace) -> Contender:
    """Raises StartError."""
    command: tuple[str, ...] = SERVE
    health, python = "/health/ready", sys.executable
    if name == FASTER_WHISPER:
        command = ("-m", "loadtest.compare.faster_whisper_handler", "--model", str(options.faster_whisper.resolve()))
        health, python = "/", options.python
    elif name == PLAIN:
        command, health = ("-m", "loadtest.compare.rivals", "plain"), "/openapi.json"
    environ = {"LRID_MODEL": options.model, "LRID_DEVICE": "cpu", "COMPARE_ENGINE": "stock"}
    return Contender(name, stack.enter_context(server(command, health, python=python, **environ)))


def read_songs(folder: Path) -> list[Song]:
    """Reads the songs that the index in the folder, or beside it, names. Raises SystemExit if it names none."""
    index = next((path for path in (folder / "index.csv", folder.parent / "index.csv") if path.is_file()), None)
    if index is None:
        raise SystemExit(f"expected {folder / 'index.csv'} with the columns file and language; there is none")
    with index.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["language"] != "zxx" and (folder / row["file"]).is_file()]
    if not rows:
        raise SystemExit(f"{index} names no song of {folder}")
    return [Song(_request((folder / row["file"]).read_bytes()), row["language"]) for row in rows]


def _request(audio: bytes) -> bytes:
    """The audio alone: only this service would read the file's tags."""
    body = b"".join(form(audio, None))
    return post_request("/identify?tags=false", f"multipart/form-data; boundary={BOUNDARY}", body)


def report(everyone: Sequence[Contender], n_songs: int) -> str:
    """Markdown; everyone[0] is this service, everyone[1] faster-whisper."""
    clients = list(everyone[0].turns)
    head = ["server", "right"]
    for n in clients:
        head += [f"{_clients(n)}: songs/s", "p50 ms", "p99 ms", "CPU ms a song"]
    rows = []
    for each in everyone:
        unsure = f" ({each.undetermined} of all `und`)" if each.undetermined else ""
        cells = [each.name, f"{each.right} of {n_songs}{unsure}"]
        for n in clients:
            cells += _cells(each.turns[n])
        rows.append(cells)
    text = [table(head, rows), ""]
    for rival in everyone[1:]:
        times = ", ".join(f"{_ratio(everyone[0].turns[n], rival.turns[n]):.1f} × with {_clients(n)}" for n in clients)
        cpu = ", ".join(f"{_cpu_ms(rival.turns[n]) / _cpu_ms(everyone[0].turns[n]):.1f}" for n in clients)
        bar = f" (required {REQUIRED:g} ×, aim {AIM:g} ×)" if rival.name == FASTER_WHISPER else ""
        text.append(f"- beside {rival.name}: songs a second {times}{bar}; CPU time a song 1 / {cpu}")
    return "\n".join(text)


def _cells(turns: Sequence[Turn]) -> list[str]:
    """Medians over the rounds; delays of all rounds together."""
    delays_ms = [delay for turn in turns for delay in turn.delays_ms]
    rate = statistics.median(turn.songs_per_second for turn in turns)
    p50, p99 = percentile(delays_ms, 0.5), percentile(delays_ms, 0.99)
    return [f"{rate:.2f}", f"{p50:,.0f}", f"{p99:,.0f}", f"{_cpu_ms(turns):,.0f}"]


def _cpu_ms(turns: Sequence[Turn]) -> float:
    return statistics.median(turn.cpu_ms for turn in turns)


def _clients(n: int) -> str:
    return f"{n} client{'s' * (n > 1)}"


def _ratio(ours: Sequence[Turn], theirs: Sequence[Turn]) -> float:
    """Median of the rounds' own ratios."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(our.songs_per_second / max(their.songs_per_second, 1e-9) for our, their in pairs)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m loadtest.compare --field", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("LRID_DATA", "../shared/data"))
    parser.add_argument("--songs", type=Path, default=data / "audio" / "songs", help="default: %(default)s")
    parser.add_argument("--faster-whisper", type=Path, required=True, metavar="MODEL_DIR")
    parser.add_argument(
        "--python", default=sys.executable, help="of the environment with faster-whisper (default: this one)"
    )
    parser.add_argument("--model", default=Settings().model, help="default: %(default)s")
    parser.add_argument("--clients", default="1,8", help="at once, separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=6.0, help="of every turn (default: %(default)s)")
    return parser.parse_args(arguments)
