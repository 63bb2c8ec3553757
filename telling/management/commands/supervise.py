"""Stop idle instances, recover what a dead process left behind, and follow what people do, until interrupted.

Use it with DORMOUSE_SUPERVISOR=external. Otherwise each web process does this itself.
"""

import logging
import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from lifecycle.supervision.supervisor import supervise
from telling.listener import Listener

logger = logging.getLogger(__name__)


def parse_address(text: str) -> tuple[str, int]:
    """Return the host and the port of `127.0.0.1:9105`, `[::1]:9105` or `:9105`. Raises ArgumentTypeError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ArgumentTypeError(f"{text!r} must be a host and a port, such as 127.0.0.1:9105")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104  # as asked


class Command(BaseCommand):
    """The command `manage.py supervise`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the address at which health and metrics are told."""
        parser.add_argument(
            "--listen",
            type=parse_address,
            metavar="ADDRESS",
            help="serve /healthz, /readyz and /metrics there, such as 127.0.0.1:9105, or :9105 for all addresses",
        )

    def handle(self, *args: Any, listen: tuple[str, int] | None, **options: Any) -> None:
        """Supervise until SIGINT or SIGTERM."""
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        with ExitStack() as stack:
            if listen:
                try:
                    stack.enter_context(Listener(*listen))
                except OSError as error:
                    raise CommandError(f"{listen[0]}:{listen[1]} cannot be listened on: {error.strerror}") from None
            logger.info("Supervising the %s engine", settings.DORMOUSE_ENGINE)
            supervise("supervise", ended)
