"""What tests do with a running Dormouse from outside: dispatch work, and read its log."""

import httpx

from events.models import EventLog
from tests.servers import DEADLINE_SECONDS, Server

#: Labels of an agent that works.
WORK = {"dispatch_path": "/cgi-bin/work", "ready_path": "/"}


def dispatch(server: Server, name: str, work: str = "") -> httpx.Response:
    return httpx.post(
        f"{server.url}/api/instances/{name}/dispatch", content=work, headers=server.bearer, timeout=DEADLINE_SECONDS
    )


def logged(name: str) -> list[EventLog]:
    return list(EventLog.objects.filter(instance=name).order_by("id"))


def types(name: str) -> list[str]:
    return [event.type.removeprefix("container.") for event in logged(name)]
