"""Stop idle instances, recover what a dead process left behind, and follow what people do, until interrupted.

Use it with DORMOUSE_SUPERVISOR=external. Otherwise each web process does this itself.
"""

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from lifecycle.supervision.supervisor import supervise


class Command(BaseCommand):
    """The command `manage.py supervise`."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Supervise until SIGINT or SIGTERM."""
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        self.stdout.write(f"Supervising the {settings.DORMOUSE_ENGINE} engine. Quit with Ctrl-C.")
        supervise("supervise", ended)
