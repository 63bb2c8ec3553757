"""The listener of a supervisor: `/healthz`, `/readyz` and `/metrics`, in a thread beside its work."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from django.db import DatabaseError, connections
from django.http import HttpResponse

from access.identity.users import Credentials, find_user
from access.permissions import VIEW_EVENTS
from access.problems import ProblemResponse
from telling.health import SUPERVISOR_CHECKS, answer
from telling.metrics.views import answer_scrape

#: Requests at once; the others wait. Each needs a connection to the database.
THREADS = 2
#: One more closes the connection that has been open for the longest time: strangers could else use up all files that
#: the supervisor may open.
MAX_CONNECTIONS = 64


def is_no_fault_of_a_caller(record: logging.LogRecord) -> bool:
    """Drop what aiohttp logs of a request that is none: any stranger can send it, and it may quote a token."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


logger = logging.getLogger(__name__)
logger.addFilter(is_no_fault_of_a_caller)


class Listener:
    """Listens at one address inside a `with` block. Raises OSError at its beginning."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._threads = ThreadPoolExecutor(THREADS, "listener")
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        #: The event loop and what ends it, when it listens.
        self._listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    def __enter__(self) -> None:
        self._thread.start()
        self._listening.result()

    def __exit__(self, *error: object) -> None:
        loop, ended = self._listening.result()
        loop.call_soon_threadsafe(ended.set)
        self._thread.join()  # Python 3.11 may crash if a coroutine is suspended at its end

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        ended = asyncio.Event()
        runner = web.AppRunner(self._make_application(), access_log=None, shutdown_timeout=1, logger=logger)
        listening = None
        try:
            await runner.setup()
            make = partial(_make_protocol, runner.server)
            listening = await asyncio.get_running_loop().create_server(make, self._host, self._port)
        except Exception as error:
            self._listening.set_exception(error)
        else:
            self._listening.set_result((asyncio.get_running_loop(), ended))
            await ended.wait()
        finally:
            if listening:
                listening.close()
            await runner.cleanup()

    def _make_application(self) -> web.Application:
        application = web.Application()
        for path, find_trouble in SUPERVISOR_CHECKS.items():
            application.router.add_get(path, partial(self._answer, make=partial(_answer_check, find_trouble)))
        application.router.add_get("/metrics", partial(self._answer, make=_answer_scrape))
        return application

    async def _answer(self, request: web.Request, make: Callable[[Credentials], HttpResponse]) -> web.Response:
        headers = [(name.lower(), value) for name, value in request.raw_headers]
        credentials = Credentials.of_scope({"headers": headers})
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._threads, _make_and_disconnect, make, credentials)
        return web.Response(
            status=made.status_code, body=made.content, headers={"Server": "dormouse"} | dict(made.items())
        )


def _make_protocol(server: Any) -> Any:
    """Return the protocol of a new connection, and make room for it."""
    connections = server.connections  # the oldest first
    for connection in connections[: max(0, len(connections) + 1 - MAX_CONNECTIONS)]:
        if connection.transport:
            connection.transport.abort()
    return server()


def _make_and_disconnect(make: Callable[[Credentials], HttpResponse], credentials: Credentials) -> HttpResponse:
    try:
        return make(credentials)
    finally:
        connections.close_all()


def _answer_check(find_trouble: Callable[[], str], credentials: Credentials) -> HttpResponse:
    return answer(find_trouble)  # it needs no login


def _answer_scrape(credentials: Credentials) -> HttpResponse:
    try:
        user = find_user(credentials)
        return answer_scrape(user, user.has_perm(VIEW_EVENTS))
    except DatabaseError:
        return ProblemResponse(503, "The database cannot be used at the moment.", code="database")
