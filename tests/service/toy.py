"""`lrid serve` with one family more: `python -m tests.service.toy serve --port 0`."""

from __future__ import annotations

from app import main as wiring
from app.families.store import families
from app.server import run as server
from tests.toy_family import FAMILY


def main() -> None:
    from app.cli.main import main as lrid

    server.create_app = lambda settings: wiring.create_app(settings, families() | {"toy": FAMILY})
    lrid()


if __name__ == "__main__":
    main()
