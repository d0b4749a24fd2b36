"""This service beside what people would write instead.

    python -m loadtest.compare                             # clips, beside FastAPI handlers
    python -m loadtest.compare --rivals plain --rounds 1 --seconds 5 --json result.json
    python -m loadtest.compare --field --songs FOLDER --faster-whisper MODEL_DIR --python FIELD_ENVIRONMENT/bin/python

All get the same bytes over HTTP from the same client. They run side by side and are asked in turns, in another order each
round, so that other work on the machine falls on all of them; ratios are medians over rounds.

Without --field: 30 s MP3 clips, and the same release behind each rival with two engines: `stock`, eager fp32, and `ours`,
this service's engine, so that engine and server are judged apart.

With --field: songs, beside faster-whisper and the plain handler. FOLDER holds audio files and `index.csv` with the columns
`file` and `language`; songs without singing (`zxx`) are left out, because not every server has such an answer. MODEL_DIR:
`python -m loadtest.compare.faster_whisper_model`. No server reads the files' tags.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path

from app.lab.markdown import table
from app.settings import Settings
from loadtest.client import BOUNDARY, Connections, Reply, form, percentile, post_request
from loadtest.servers import SERVE, Server, machine, save, say, server
from loadtest.sounds import encoded

CLIP_SECONDS, DISTINCT_CLIPS = 30.0, 8
REQUIRED = {"stock": "required 2.3 ×", "ours": "required 1.1 ×"}  # by engine of a rival: times its rate
REQUIRED_OF_FIELD = "required 3 ×, aim 6 ×"
# One code for what one of the servers tells apart and another does not.
SAME = {"nn": "no", "nb": "no", "hr": "sh", "sr": "sh", "bs": "sh", "yue": "zh", "jw": "jv"}


@dataclass(frozen=True, slots=True)
class Sound:
    """A request, and the right answer if that is known."""

    request: bytes
    language: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """Holds what one server did in one round with one number of clients."""

    per_second: float
    cpu_ms: float  # of all the server's processes for one answer
    delays_ms: tuple[float, ...]


@dataclass(slots=True)
class Contender:
    name: str
    running: Server
    required: str = ""  # of this service beside it
    right: int = 0
    undetermined: int = 0
    sent: int = 0
    turns: dict[int, list[Turn]] = field(default_factory=dict)  # by number of clients

    async def hear_all(self, sounds: Sequence[Sound]) -> None:
        """Every sound once, two at a time: counts right answers, and warms up."""
        room = asyncio.Semaphore(2)
        async with Connections(self.running.port) as connections:

            async def answer(sound: Sound) -> Reply:
                async with room:
                    return await connections.exchange(sound.request)

            replies = await asyncio.gather(*(answer(sound) for sound in sounds))
        for sound, reply in zip(sounds, replies, strict=True):
            if reply.status != 200:
                say(f"{self.name}: status {reply.status} for a sound in {sound.language!r}")
                continue
            self.right += best_language(reply) == SAME.get(sound.language, sound.language)
            self.undetermined += reply.json().get("language") == "und"

    async def take_turn(self, sounds: Sequence[Sound], clients: int, seconds: float) -> None:
        """A closed loop: each client sends the next sound as soon as it has an answer."""
        delays_ms: list[float] = []
        before, began = self.running.cpu_seconds, time.perf_counter()

        async def client(connections: Connections) -> None:
            while time.perf_counter() < began + seconds:
                sound = sounds[self.sent % len(sounds)]
                self.sent += 1
                reply, took = await connections.timed(sound.request)
                if reply.status == 200:
                    delays_ms.append(1e3 * took)

        async with Connections(self.running.port) as connections:
            await asyncio.gather(*(client(connections) for _ in range(clients)))
        took = time.perf_counter() - began  # until the last answer
        n = max(len(delays_ms), 1)
        turn = Turn(len(delays_ms) / took, 1e3 * (self.running.cpu_seconds - before) / n, tuple(delays_ms))
        self.turns.setdefault(clients, []).append(turn)
        say(f"{self.name}, {_clients(clients)}: {turn.per_second:.2f}/s, {turn.cpu_ms:.0f} ms of CPU each")


def best_language(reply: Reply) -> str:
    """The most probable language, even if the service is not sure enough to answer with it."""
    answer = reply.json()
    if "language" not in answer:  # the plain handler gives probabilities by language
        code = str(max(answer, key=answer.get))
    else:
        code = str(answer["languages"][0]["code"] if answer["language"] == "und" else answer["language"])
    return SAME.get(code, code)


def main() -> None:
    options = _options()
    sounds = read_songs(options.songs) if options.field else clips()
    began_at = f"load average at the start {os.getloadavg()[0]:.1f}"
    with contextlib.ExitStack() as stack:
        everyone = _started(stack, options)
        for contender in everyone:
            asyncio.run(contender.hear_all(sounds))
        for number in range(options.rounds):
            for n in map(int, options.clients.split(",")):
                turn = number % len(everyone)
                for contender in everyone[turn:] + everyone[:turn]:
                    asyncio.run(contender.take_turn(sounds, n, options.seconds))
                turns = {
                    each.name: {n: [asdict(one) for one in found] for n, found in each.turns.items()} for each in everyone
                }
                save(options.json, {"machine": machine(), "turns": turns})
    print(report(everyone, len(sounds) if options.field else 0))
    print(f"- {options.model}; {options.rounds} round(s) of {options.seconds:g} s; {machine()}, {began_at}")


def _started(stack: contextlib.ExitStack, options: argparse.Namespace) -> list[Contender]:
    """This service first. Raises StartError."""
    environ = {"LRID_MODEL": options.model, "LRID_DEVICE": "cpu"}

    def handler(rival: str, engine: str, required: str = "") -> Contender:
        command = ("-m", "loadtest.compare.rivals", rival)
        running = server(command, "/openapi.json", COMPARE_ENGINE=engine, **environ)
        return Contender(f"FastAPI, {rival}, {engine} engine", stack.enter_context(running), required)

    ours = Contender("this service", stack.enter_context(server(SERVE, **environ)))
    if not options.field:
        rivals = [name for name in options.rivals.split(",") if name]
        return [ours, *(handler(name, engine, required) for name in rivals for engine, required in REQUIRED.items())]
    command = ("-m", "loadtest.compare.faster_whisper_handler", "--model", str(options.faster_whisper.resolve()))
    theirs = stack.enter_context(server(command, "/", python=options.python, **environ))
    return [ours, Contender("faster-whisper", theirs, REQUIRED_OF_FIELD), handler("plain", "stock")]


def clips() -> list[Sound]:
    return [Sound(_request(encoded(CLIP_SECONDS, seed, "MP3"))) for seed in range(DISTINCT_CLIPS)]


def read_songs(folder: Path) -> list[Sound]:
    """Reads the songs that the index in the folder, or beside it, names. Raises SystemExit if it names none."""
    index = next((path for path in (folder / "index.csv", folder.parent / "index.csv") if path.is_file()), None)
    if index is None:
        raise SystemExit(f"expected {folder / 'index.csv'} with the columns file and language; there is none")
    with index.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["language"] != "zxx" and (folder / row["file"]).is_file()]
    if not rows:
        raise SystemExit(f"{index} names no song of {folder}")
    return [Sound(_request((folder / row["file"]).read_bytes()), row["language"]) for row in rows]


def _request(audio: bytes) -> bytes:
    """The audio alone: only this service would read the file's tags."""
    body = b"".join(form(audio, None))
    return post_request("/identify?tags=false", f"multipart/form-data; boundary={BOUNDARY}", body)


def report(everyone: Sequence[Contender], n_songs: int) -> str:
    """Markdown; everyone[0] is this service. `n_songs`: whose language is known."""
    ours, *rivals = everyone
    head = ["server", *(["right"] if n_songs else [])]
    for n in ours.turns:
        head += [f"{_clients(n)}: answers/s", "p50 ms", "p99 ms", "CPU ms each"]
    rows = []
    for each in everyone:
        unsure = f" ({each.undetermined} of all `und`)" if each.undetermined else ""
        right = [f"{each.right} of {n_songs}{unsure}"] if n_songs else []
        rows.append([each.name, *right, *(cell for turns in each.turns.values() for cell in _cells(turns))])
    text = [table(head, rows), ""]
    for rival in rivals:
        times = ", ".join(f"{_ratio(ours.turns[n], rival.turns[n]):.2f} × with {_clients(n)}" for n in ours.turns)
        cpu = ", ".join(f"{_cpu_ms(rival.turns[n]) / _cpu_ms(ours.turns[n]):.1f}" for n in ours.turns)
        bar = f" ({rival.required})" if rival.required else ""
        text.append(f"- beside {rival.name}: answers a second {times}{bar}; CPU time of one 1 / {cpu}")
    return "\n".join(text)


def _cells(turns: Sequence[Turn]) -> list[str]:
    """Medians over the rounds; delays of all rounds together."""
    delays_ms = [delay for turn in turns for delay in turn.delays_ms]
    rate = statistics.median(turn.per_second for turn in turns)
    p50, p99 = percentile(delays_ms, 0.5), percentile(delays_ms, 0.99)
    return [f"{rate:.2f}", f"{p50:,.0f}", f"{p99:,.0f}", f"{_cpu_ms(turns):,.0f}"]


def _cpu_ms(turns: Sequence[Turn]) -> float:
    return statistics.median(turn.cpu_ms for turn in turns)


def _clients(n: int) -> str:
    return f"{n} client{'s' * (n > 1)}"


def _ratio(ours: Sequence[Turn], theirs: Sequence[Turn]) -> float:
    """Median of the rounds' own ratios."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(our.per_second / max(their.per_second, 1e-9) for our, their in pairs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("LRID_DATA", "../shared/data"))
    parser.add_argument("--field", action="store_true", help="songs, beside faster-whisper")
    parser.add_argument("--songs", type=Path, default=data / "audio" / "songs", help="with --field (default: %(default)s)")
    parser.add_argument("--faster-whisper", type=Path, metavar="MODEL_DIR", help="with --field")
    parser.add_argument(
        "--python", default=sys.executable, help="of the environment with faster-whisper (default: this one)"
    )
    parser.add_argument("--rivals", default="plain,tuned", help="without --field, by commas (default: %(default)s)")
    parser.add_argument("--model", default=Settings().model, help="default: %(default)s")
    parser.add_argument("--clients", default="1,8", help="at once, separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=6.0, help="of every turn (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="save every turn")
    options = parser.parse_args()
    if options.field and options.faster_whisper is None:
        parser.error("--field needs --faster-whisper MODEL_DIR")
    return options


if __name__ == "__main__":
    main()
