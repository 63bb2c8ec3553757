"""The web process under uvicorn: how it begins, and how it ends."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import httptools
import uvicorn
from django.core.exceptions import ImproperlyConfigured
from uvicorn.protocols.http import httptools_impl

from config.serving.orderly_end import end_applications, exit_at_next_signal, leave
from config.serving.uvicorn.answer import Answer
from config.serving.uvicorn.connection import Connection
from config.serving.uvicorn.web_socket import WebSocket
from lifecycle.dispatch.agent_client import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

#: The versions that this folder was written for.
UVICORN_VERSION = "0.54.0"
HTTPTOOLS_VERSION = "0.9.0"


def serve(
    application: Any,
    host: str,
    port: int,
    *,
    when_serving: Callable[[], None],
    drain: Callable[[], Coroutine[Any, Any, None]],
    clean_up: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT, and exit.

    Args:
        application: the ASGI application.
        host: the address to listen on.
        port: the port to listen on.
        when_serving: is called when connections are accepted.
        drain: is awaited at a signal, while everything is served on. A second signal does not wait for it.
        clean_up: is called when the applications have ended.

    Raises ImproperlyConfigured for other versions, because what is overridden here is no interface of theirs.
    """
    installed = (uvicorn.__version__, httptools.__version__)
    if installed != (UVICORN_VERSION, HTTPTOOLS_VERSION):
        raise ImproperlyConfigured(
            f"config/serving/uvicorn was written for uvicorn {UVICORN_VERSION} and httptools {HTTPTOOLS_VERSION}, but "
            f"{' and '.join(installed)} are installed. Install the pinned versions: pip install -r requirements.txt"
        )
    httptools_impl.RequestResponseCycle = Answer  # type: ignore[misc]  # uvicorn has no setting for it
    asyncio.run(_serve(uvicorn.Server(_configure(application, host, port)), when_serving, drain, clean_up))


async def _serve(
    server: uvicorn.Server,
    when_serving: Callable[[], None],
    drain: Callable[[], Coroutine[Any, Any, None]],
    clean_up: Callable[[], None],
) -> None:
    await start(server)
    draining = asyncio.create_task(_drain_at_signal(drain))
    when_serving()
    await asyncio.wait([draining])
    exit_at_next_signal()
    await end_applications()
    leave(clean_up)  # here, because the end of asyncio.run would wait for the threads of its pool


async def start(server: uvicorn.Server) -> None:
    """Begin to accept connections. Exit if the address cannot be used."""
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()


def _configure(application: Any, host: str, port: int) -> uvicorn.Config:
    """Return uvicorn's configuration. Of what callers say, it believes nothing that a proxy alone should say."""
    return uvicorn.Config(
        application,
        host,
        port,
        loop="asyncio",
        http=Connection,
        ws=WebSocket,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
    )


async def _drain_at_signal(drain: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Return when work in flight has ended after a signal, or at a second signal."""
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    await signals.get()
    draining, second = asyncio.create_task(drain()), asyncio.create_task(signals.get())
    await asyncio.wait({draining, second}, return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, second):
        task.cancel()
