"""Answers no faster than their caller reads them.

Daphne's `send` never waits: of an agent's long answer to a slow caller it would keep all in memory (378 MB of 300 MB
that nobody read), and of a stream each reader's share until that is used up, while the others wait. Twisted tells a
producer when its socket is full, so each answer becomes one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Paced:
    """ASGI middleware: `send` waits while the caller's socket is full."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        protocol = getattr(send, "args", [None])[0]  # `send` is daphne's `partial(handle_reply, protocol)`
        await self.app(scope, receive, Producer(protocol, send).send if protocol else send)


class Producer:
    """One answer, as Twisted's push producer (IPushProducer) from its first part to its last."""

    def __init__(self, protocol: Any, send: Any) -> None:
        self._protocol = protocol
        self._send = send
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()
        self._is_registered = False

    async def send(self, message: dict[str, Any]) -> None:
        """Waits before a message, not after it: whoever is cancelled here has sent nothing. The last never waits."""
        if message.get("more_body"):
            await self._may_go_on.wait()
            self._register()
        else:
            self._unregister()
        await self._send(message)

    def _register(self) -> None:
        if not self._is_registered and self._protocol.channel is not None:  # else the caller has hung up meanwhile
            self._is_registered = True
            self._protocol.registerProducer(self, True)

    def _unregister(self) -> None:
        if self._is_registered:
            self._is_registered = False
            if self._protocol.channel is not None:
                self._protocol.unregisterProducer()

    def pauseProducing(self) -> None:  # noqa: N802  # Twisted's name
        self._may_go_on.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self._may_go_on.set()

    stopProducing = resumeProducing  # noqa: N815  # and the next message finds no channel
