"""`lrid serve` with one family more: `python -m tests.service.toy serve --port 0`."""

from fastapi import FastAPI

from app import main as wiring
from app.families.store import families
from app.server import run as server
from app.settings import Settings
from tests.toy_family import FAMILY


def create_app(settings: Settings) -> FastAPI:
    return wiring.create_app(settings, families() | {"toy": FAMILY})


def main() -> None:
    from app.cli.main import main as lrid

    setattr(server, "create_app", create_app)  # noqa: B010
    lrid()


if __name__ == "__main__":
    main()
