"""`lrid score --server`: one server is there, one is not, one comes back."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from app.catalogue.rows import Row, Scored
from app.catalogue.servers import Servers
from app.domain import Metadata
from tests.service.live import LiveServer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_away_costs_no_row(server: LiveServer, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(clip)
    (tmp_path / "text.wav").write_text("no audio")
    names = [Row(str(n), Metadata(title=f"La vie en rose {n}")) for n in range(600)]

    async def ask() -> tuple[list[Scored], Scored, Scored]:
        servers = Servers([f"http://127.0.0.1:{free_port()}", str(server.client.base_url)])
        servers._back_at[0] = float("inf")  # its first call would be tried for a minute
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
