"""How a log record becomes a line: one line, whatever names, errors and outputs are in it."""

import json
import logging
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost

from lifecycle.clock import as_text
from lifecycle.tracing import trace_id

#: The id of the request that this task or thread works for. Empty: it works for none.
request_id: ContextVar[str] = ContextVar("request_id", default="")


class OneLineFormatter(logging.Formatter):
    """Writes a record as one line. A traceback follows with an indent, so that it does not look like another record.

    The id of the request stands before the message, in brackets after the name of the logger.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the line, with each character that does not print (a line break, an escape) as an escape."""
        record.message = _escape(record.message)
        record.request = f" [{own}]" if (own := request_id.get()) else ""
        return super().formatMessage(record)

    def formatException(self, exc_info: Any) -> str:  # noqa: N802
        """Return the traceback, indented, with escapes as in the line. The text of an error may be a stranger's."""
        return "\n".join(f"  {_escape(line)}" for line in super().formatException(exc_info).split("\n"))


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, with its traceback in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: ASCII, with all else escaped."""
        line: dict[str, Any] = {
            "time": as_text(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if own := request_id.get():
            line["request_id"] = own
        if own := trace_id.get():
            line["trace_id"] = own
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


def log_what_python_prints() -> None:
    """Log warnings and uncaught errors, which Python would print in lines of its own."""
    logging.captureWarnings(True)
    logger = logging.getLogger("python")

    def log_uncaught(type: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.critical("An error ended the process", exc_info=(type, error, trace))

    def log_ended_thread(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value:
            name = ended.thread.name if ended.thread else ""
            trouble = (ended.exc_type, ended.exc_value, ended.exc_traceback)
            logger.error("An error ended the thread %r", name, exc_info=trouble)

    def log_ignored(ignored: Any) -> None:
        trouble = (ignored.exc_type, ignored.exc_value, ignored.exc_traceback)
        logger.error("%s: %r", ignored.err_msg or "An error was ignored", ignored.object, exc_info=trouble)

    sys.excepthook, threading.excepthook, sys.unraisablehook = log_uncaught, log_ended_thread, log_ignored


def has_traceback(record: logging.LogRecord) -> bool:
    """Keep only what has a traceback. The line of the request tells the rest."""
    return record.exc_info is not None


def say_address(record: logging.LogRecord) -> bool:
    """Keep of what daphne's server says at the level INFO only that it listens, and name the address of the page.

    So the address is named when it can be opened, and not before.
    """
    if record.levelno > logging.INFO:
        return True
    if record.msg != "Listening on TCP address %s:%s" or not isinstance(record.args, tuple):
        return False
    record.msg, record.args = listening_at(*map(str, record.args)), ()
    return True


def listening_at(host: str, port: str) -> str:
    """Return a sentence that names the address of this process, and of the page if that is known."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    page = "" if settings.HTTPS else f" The Agents page is on http://{address}{settings.DORMOUSE_BASE_PATH}/agents/."
    return f"Listening on {address}.{page}"


def drop_traceback_of_host(record: logging.LogRecord) -> bool:
    """Drop the traceback of a request with a foreign Host, which any stranger can send. The message says all."""
    if record.exc_info and isinstance(record.exc_info[1], DisallowedHost):
        record.exc_info = None
    return True
