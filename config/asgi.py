"""The web process: /events and the gateway in front of Django's handler, and the embedded supervisor in a thread."""

import logging
import os
import resource
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

logger = logging.getLogger(__name__)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django = get_asgi_application()  # sets Django up, which the imports below need

from access.middleware import AsgiAccess  # noqa: E402
from config.first_run import say_who_gets_in  # noqa: E402
from config.serving.base_path import BasePath  # noqa: E402
from config.serving.bodies import BoundedBody  # noqa: E402
from config.serving.concurrency import WORK_PATH, LimitConcurrency  # noqa: E402
from config.serving.garbage import give_memory_back_when_calm, tune_garbage_collection  # noqa: E402
from config.serving.requests import LogRequests  # noqa: E402
from events.stream.consumer import EventStream  # noqa: E402
from lifecycle import assembly  # noqa: E402
from lifecycle.dispatch.gateway import Gateway  # noqa: E402
from lifecycle.dispatch.in_flight.draining import work_in_flight  # noqa: E402
from lifecycle.dispatch.web_socket import WebSocketGateway  # noqa: E402
from lifecycle.supervision.supervisor import start_embedded  # noqa: E402
from telling import traces  # noqa: E402

routes: list[Any] = [
    path("events", BoundedBody(AsgiAccess(EventStream.as_asgi()))),  # type: ignore[arg-type]
    re_path(WORK_PATH[1:] + r"\Z", AsgiAccess(Gateway())),  # type: ignore[arg-type]
    re_path("", BoundedBody(LimitConcurrency(django))),  # type: ignore[arg-type]
]


async def refuse_websocket(scope: Any, receive: Any, send: Any) -> None:
    """Refuse a WebSocket without a traceback, because any client may ask for one."""
    await send({"type": "websocket.close"})


web_sockets: list[Any] = [
    re_path(WORK_PATH[1:] + r"\Z", WebSocketGateway()),  # type: ignore[arg-type]
    re_path("", refuse_websocket),  # type: ignore[arg-type]
]


application: Any = BasePath(
    ProtocolTypeRouter({"http": LogRequests(URLRouter(routes)), "websocket": LogRequests(URLRouter(web_sockets))}),
    settings.DORMOUSE_BASE_PATH,
)


def allow_open_files(wanted: int) -> None:
    """Raise this process's limit of open files to `wanted`, or to what the system allows.

    Each stream is a socket, and most shells set the limit to 1024.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    if allowed != resource.RLIM_INFINITY and allowed < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, most))
    if possible < wanted:
        logger.warning(
            "This process may open %d files, but DORMOUSE_MAX_STREAMS may need %d. Raise the limit: ulimit -n",
            most,
            wanted,
        )


def shut_down() -> None:
    """Give leases back, unregister the worker, and send the last spans."""
    assembly.shut_down()
    traces.shut_down()


allow_open_files(settings.DORMOUSE_MAX_STREAMS + 1024)
traces.install()


def when_serving() -> None:
    """Do what belongs to the moment at which the first request may come."""
    tune_garbage_collection()
    give_memory_back_when_calm()
    say_who_gets_in()


async def drain() -> None:
    """Take no new work, and return when the work in flight has ended."""
    await work_in_flight.drain(settings.DORMOUSE_DRAIN.total_seconds())


if settings.DORMOUSE_SERVER == "daphne":
    from config.serving.daphne import setup

    application = setup.adapt(application)
    setup.prepare(when_serving, drain, shut_down)
if settings.DORMOUSE_SUPERVISOR == "embedded":
    start_embedded()
