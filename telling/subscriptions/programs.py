"""Deliveries to a program: a POST of a CloudEvents 1.0 JSON event, signed as Standard Webhooks says."""

import asyncio
import os
import time
from collections.abc import Sequence

import aiohttp
from django.conf import settings

from telling.subscriptions.addresses import AddressRefused, open_socket
from telling.subscriptions.failures import DeliveryFailed
from telling.subscriptions.messages import Message
from telling.subscriptions.signing import sign

#: For a delivery as a whole: the name's resolution, the connection, the request and the answer.
DELIVERY_SECONDS = 15.0
#: Of the answer no more is read. The status decides.
MAX_ANSWER_BYTES = 64 * 1024
GONE = 410


class ProgramSender:
    """Sends messages to one URL. One thread uses it, and closes it. Connections are kept between two messages."""

    def __init__(self, url: str, signing_secrets: Sequence[str], seconds: float = DELIVERY_SECONDS) -> None:
        self._url, self._secrets, self._seconds = url, signing_secrets, seconds
        self._refused: AddressRefused | None = None
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession = self._runner.run(self._open())

    def send(self, message: Message) -> None:
        """Deliver the message. Raises DeliveryFailed."""
        try:
            self._runner.run(self._post(message))
        except TimeoutError:
            raise DeliveryFailed(f"no complete answer within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DeliveryFailed(str(self._refused or _describe(error))) from None

    def close(self) -> None:
        """Close the connections."""
        self._runner.run(self._session.close())
        self._runner.close()

    async def _open(self) -> aiohttp.ClientSession:
        """Return a session that keeps no cookies and uses no proxy of the environment."""
        connector = aiohttp.TCPConnector(limit=1, socket_factory=self._open_socket)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            auto_decompress=False,
            headers={
                "Content-Type": "application/cloudevents+json",
                "User-Agent": f"Dormouse/{settings.DORMOUSE_VERSION}",
                "Accept-Encoding": "identity",
            },
        )

    async def _post(self, message: Message) -> None:
        body = message.as_cloud_event()
        headers = sign(body, id=message.id, seconds=int(time.time()), signing_secrets=self._secrets)
        self._refused = None
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            read_bytes = 0
            async for part in answer.content.iter_any():
                read_bytes += len(part)
                if read_bytes > MAX_ANSWER_BYTES:
                    break
            _check_status(answer)

    def _open_socket(self, found: aiohttp.AddrInfoType):  # type: ignore[no-untyped-def]
        try:
            return open_socket(found)
        except AddressRefused as error:
            self._refused = error
            raise


def _check_status(answer: aiohttp.ClientResponse) -> None:
    """Raise DeliveryFailed unless the status is 2xx."""
    if 200 <= answer.status < 300:
        return
    if answer.status == GONE:
        raise DeliveryFailed("it answered 410 Gone: it wants no more deliveries", is_final=True)
    redirect = ", and no redirect is followed" if 300 <= answer.status < 400 else ""
    wait = answer.headers.get("Retry-After", "")
    retry_after = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else 0
    raise DeliveryFailed(f"it answered {answer.status}{redirect}", retry_after=retry_after)


def _describe(error: Exception) -> str:
    """Return why no answer came. The texts of these errors name the host, and nothing else of the URL."""
    if isinstance(error, aiohttp.ClientConnectorError):
        number, text = error.os_error.errno or 0, error.os_error.strerror or str(error.os_error)
        return (
            f"it cannot be connected to: {os.strerror(number) if number > 0 else text}"  # the resolver's are negative
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    return f"it gave no answer ({type(error).__name__})"
