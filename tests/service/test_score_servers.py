"""`lrid score --server`: one server is there, one is not; both go away in turn and one comes back."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

from app.catalogue.rows import Row, Scored
from app.catalogue.servers import Servers
from app.client import Options
from app.domain import Metadata
from tests.service.live import PATIENCE_SECONDS, ROOT, LiveServer, wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_away_costs_no_row(server: LiveServer, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(clip)
    (tmp_path / "text.wav").write_text("no audio")
    names = [Row(str(n), Metadata(title=f"La vie en rose {n}")) for n in range(600)]

    async def ask() -> tuple[list[Scored], Scored, Scored]:
        servers = Servers([f"http://127.0.0.1:{free_port()}", str(server.client.base_url)], None, Options(tags=False))
        try:
            files = [Row(name, Metadata(), tmp_path / name) for name in ("clip.wav", "text.wav")]
            return await servers.names(names), await servers.file(files[0]), await servers.file(files[1])
        finally:
            await servers.close()

    answers, heard, refused = asyncio.run(ask())
    assert len(answers) == 600
    assert all(answer.language and not answer.error for answer in answers)
    assert (heard.modalities, heard.error) == ("audio", "")
    assert refused.error == "audio_unknown_format"


# Fewer rows together than usual, so that fewer suffice for several groups on their way.
PROGRAM = "import app.catalogue.score as s; s.GROUP_ROWS = 128; from app.cli.main import app; app()"
TITLES = ["La vie en rose", "El mar y tú", "夢の中へ", "Über den Wolken", "Volare"]


def test_two_servers_that_go_away_and_come_back(server: LiveServer, tiny_store: Path, tmp_path: Path) -> None:
    """Rows come while the first is killed, then while the second drains and the first is there again."""
    output = tmp_path / "out.ndjson"
    sent = 0

    def send(process: subprocess.Popen[bytes], n: int) -> None:
        nonlocal sent
        assert process.stdin is not None
        for i in range(sent, sent + n):
            process.stdin.write(json.dumps({"id": str(i), "title": f"{TITLES[i % len(TITLES)]} {i}"}).encode() + b"\n")
        process.stdin.flush()
        sent += n

    def answered() -> int:
        return output.read_bytes().count(b"\n") if output.exists() else 0

    with LiveServer(tmp_path / "a", model_store=tiny_store) as a, LiveServer(tmp_path / "b", model_store=tiny_store) as b:
        for one in (a.wait_until_ready(), b.wait_until_ready()):
            assert one.process.poll() is None
        urls = [f"--server=http://127.0.0.1:{one.port}" for one in (a, b)]
        command = [sys.executable, "-c", PROGRAM, "score", "-", "--output", str(output), *urls]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            send(process, 500)
            wait_until(lambda: answered() >= 125)
            a.process.kill()
            a.process.wait()
            send(process, 375)
            wait_until(lambda: answered() == sent)
            with LiveServer(tmp_path / "again", port=a.port, model_store=tiny_store) as again:
                again.wait_until_ready()
                send(process, 250)
                b.terminate()
                send(process, 125)
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(PATIENCE_SECONDS) == 0
                assert again.metric("lrid_requests_total", outcome="ok") > 0
    rows = {row["id"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert answered() == len(rows) == sent
    alone = {title: server.identify(json={"title": f"{title} 0"}).json().get("language") for title in TITLES[:3]}
    for i in range(sent):
        assert rows[str(i)]["title"] == f"{TITLES[i % len(TITLES)]} {i}"
        assert rows[str(i)]["language"] == alone.get(TITLES[i % len(TITLES)], rows[str(i)]["language"])
        assert not rows[str(i)]["error"]
