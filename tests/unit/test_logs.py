"""Logs: one JSON object a line, whatever is logged."""

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from app.logs import JsonFormatter, log_config


@pytest.fixture
def logger() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger of its own, and what it wrote."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("lrid.test", logging.DEBUG)
    logger.addHandler(handler)
    yield logger, out
    handler.close()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_has_time_level_logger_message(logger: Any) -> None:
    logger[0].warning("%d windows failed", 3)
    (line,) = lines(logger[1])
    assert {k: line[k] for k in line if k != "time"} == {
        "level": "warning",
        "logger": "lrid.test",
        "message": "3 windows failed",
    }
    assert datetime.fromisoformat(line["time"]).tzinfo is not None


def test_extras_become_members(logger: Any) -> None:
    logger[0].info("request", extra={"fields": {"request_id": "a1", "status": 200}})
    logger[0].error("a decoder met a defect", extra={"fields": {"cause": "KeyError at decode.py:12"}})
    first, second = lines(logger[1])
    assert (first["request_id"], first["status"]) == ("a1", 200)
    assert second["cause"] == "KeyError at decode.py:12"
    assert not {"fields", "args", "msg", "levelno", "thread"} & (first.keys() | second.keys())


def test_line_breaks_and_odd_values_stay_on_one_line(logger: Any) -> None:
    logger[0].info("first\nsecond \u2028 ünï", extra={"fields": {"path": io.BytesIO, "name": "한"}})
    assert logger[1].getvalue().count("\n") == 1
    (line,) = lines(io.StringIO(logger[1].getvalue().replace("\u2028", " ")))
    assert line["message"].startswith("first\nsecond")
    assert line["name"] == "한"


def test_a_name_that_is_no_unicode_is_logged_too(logger: Any) -> None:
    logger[0].info("read", extra={"fields": {"file": "caf\udce9.mp3"}})
    assert lines(logger[1])[0]["file"] == "caf\udce9.mp3"


def test_exceptions_come_with_their_traceback(logger: Any) -> None:
    try:
        raise ValueError("no")
    except ValueError:
        logger[0].exception("failed")
    (line,) = lines(logger[1])
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: no")


@pytest.fixture
def _restored_root() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.usefixtures("_restored_root")
def test_configuration_reaches_every_logger(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(log_config("warning"))
    logging.getLogger("uvicorn.error").warning("from uvicorn")
    logging.getLogger("lrid.access").info("too quiet to be shown")
    logging.getLogger("lrid.batcher").error("from the batcher")
    shown = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["from uvicorn", "from the batcher"]
