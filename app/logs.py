"""Logs on standard error: one JSON object per line, or plain words on a terminal; never with content of a request."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import orjson


class JsonFormatter(logging.Formatter):
    """`logging` records as JSON; `extra={"fields": {...}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()  # a tenth of json's time
        except TypeError:  # lone surrogates, such as those of file names
            return json.dumps(line, ensure_ascii=False, default=str)


class TerminalFormatter(logging.Formatter):
    """The same for people: time, message, and the fields behind it."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        words = [datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")]
        words += [record.levelname.lower() + ":"] if record.levelno >= logging.WARNING else []
        words += [record.getMessage(), *(f"{name}={value}" for name, value in fields.items() if value is not None)]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def log_config(level: str, *, terminal: bool = False) -> dict[str, Any]:
    """Configure logging by `dictConfig`: every line as JSON, uvicorn's included, or in plain words on a `terminal`."""
    formatter = TerminalFormatter if terminal else JsonFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": f"app.logs.{formatter.__name__}"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.stderr"}},
        "loggers": {
            **{name: {"level": "NOTSET", "handlers": [], "propagate": True} for name in ("uvicorn", "uvicorn.error")},
            "python_multipart": {"level": "CRITICAL"},  # its messages quote the request; the answer names the error
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
    }
