"""Django serves a bounded number of requests at once."""

import asyncio
from pathlib import Path

import httpx
import pytest

from config.serving.concurrency import MAX_REQUESTS, LimitConcurrency
from tests.servers import DEADLINE_SECONDS


@pytest.mark.parametrize(
    ("path", "at_once"),
    [
        ("/agents/", 3),
        ("/accounts/login/", 3),
        ("/healthz", 20),
        ("/readyz", 20),
        ("/static/x.js", 20),
    ],
)
def test_so_many_requests_are_served_at_once(path, at_once):
    inside = most = 0

    async def application(scope, receive, send):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1

    async def flood():
        limited = LimitConcurrency(application, 3)
        await asyncio.gather(*(limited({"path": path}, None, None) for _ in range(20)))

    asyncio.run(flood())
    assert most == at_once


def test_a_request_that_fails_or_is_cancelled_makes_room():
    async def application(scope, receive, send):
        if scope["fails"]:
            raise ZeroDivisionError
        await asyncio.sleep(60)

    async def flood():
        limited = LimitConcurrency(application, 1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await limited({"path": "/", "fails": True}, None, None)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await limited({"path": "/", "fails": False}, None, None)

    asyncio.run(flood())


def test_many_strangers_at_once_make_few_threads(serve):
    server = serve()

    def threads():
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.split("Threads:")[1].split()[0])

    async def flood():
        limits = httpx.Limits(max_connections=400)
        most = 0
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=DEADLINE_SECONDS) as client:
            asking = [asyncio.create_task(client.get("/accounts/login/")) for _ in range(400)]
            while not all(task.done() for task in asking):
                most = max(most, threads())
                await asyncio.sleep(0.01)
            assert {task.result().status_code for task in asking} == {200}
        return most

    assert asyncio.run(flood()) <= MAX_REQUESTS + 40
