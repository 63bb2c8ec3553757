"""Stop the idle, recover what a dead process left behind, and observe what others do, until interrupted.

For DORMOUSE_SUPERVISOR=external; otherwise each web process does it itself.
"""

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from lifecycle.supervision.supervisor import supervise


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        self.stdout.write(f"Supervising the {settings.DORMOUSE_ENGINE} engine. Quit with Ctrl-C.")
        supervise("supervise", ended)
