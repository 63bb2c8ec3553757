"""How a log record becomes text: a line is one line, whatever names, errors and outputs are in it."""

import logging
import textwrap
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost


class OneLineFormatter(logging.Formatter):
    """Writes a record as one line. A traceback follows with an indent, so that it does not look like another record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the line, with each character that does not print (a line break, an escape) as an escape."""
        record.message = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in record.message)
        return super().formatMessage(record)

    def formatException(self, exc_info: Any) -> str:  # noqa: N802
        """Return the traceback, indented."""
        return textwrap.indent(super().formatException(exc_info), "  ", lambda line: True)


def say_address(record: logging.LogRecord) -> bool:
    """Keep of what daphne's server says at the level INFO only that it listens, and name the address of the page.

    So the address is named when it can be opened, and not before.
    """
    if record.levelno > logging.INFO:
        return True
    if record.msg != "Listening on TCP address %s:%s" or not isinstance(record.args, tuple):
        return False
    host, port = (str(part) for part in record.args)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    page = "" if settings.HTTPS else f" The Agents page is on http://{address}{settings.DORMOUSE_BASE_PATH}/agents/."
    record.msg, record.args = f"Listening on {address}.{page}", ()
    return True


def drop_traceback_of_host(record: logging.LogRecord) -> bool:
    """Drop the traceback of a request with a foreign Host, which any stranger can send. The message says all."""
    if record.exc_info and isinstance(record.exc_info[1], DisallowedHost):
        record.exc_info = None
    return True
