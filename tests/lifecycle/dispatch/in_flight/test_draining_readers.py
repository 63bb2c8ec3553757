"""SIGTERM in the middle of work and of readers: every answer comes, and every reader goes on at another process."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from events.log import record
from lifecycle.models import Lease
from tests.config.agents import agents_file
from tests.lifecycle.dispatch.in_flight.test_draining import PIECES, WAITING, is_draining, work
from tests.servers import DEADLINE_SECONDS, wait_for

READERS = 100


class Reader:
    """Reads the stream, and keeps what it has heard over all its connections."""

    def __init__(self) -> None:
        self.heard = b""
        self.ids: list[int] = []

    async def read(self, server, cursor, last=None):
        """Read from `cursor` on, to the event `last` or to the end of the stream."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"GET /events?after={cursor}&type=a.b HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        writer.write(f"{head}Authorization: Bearer {server.TOKEN}\r\n\r\n".encode())
        self.heard = b""
        while part := await reader.read(65536):
            self.heard += part
            if last is not None and b"id: %d\n" % last in self.heard:
                break
        writer.close()
        self.ids += [int(id) for id, type in events(self.heard) if type == "a.b"]


def events(heard):
    """Yield the id and the type of each event in the bytes of a stream."""
    for block in heard.decode().replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in fields and "id" in fields:
            yield fields["id"], fields["event"]


def read_all(readers, server, cursor, last=None):
    async def read():
        async with asyncio.timeout(4 * DEADLINE_SECONDS), asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.read(server, cursor, last))

    asyncio.run(read())


@pytest.mark.uvicorn_too
def test_work_gets_its_answers_and_readers_lose_nothing(serve, tmp_path):
    (tmp_path / "waiting.py").write_text(WAITING)
    readers = [Reader() for _ in range(READERS)]
    start = record("start").id
    with agents_file(tmp_path, waits="waiting.py") as environment, ThreadPoolExecutor(PIECES + 1) as pool:
        first = serve(**environment, DORMOUSE_DRAIN="1h")
        second = serve(**environment)
        reading = pool.submit(read_all, readers, first, start)
        answers = [pool.submit(work, first, 0, "waits") for _ in range(PIECES)]
        try:
            wait_for(lambda: Lease.objects.count_works() == PIECES, what="the work")
            wait_for(lambda: all(b"stream-open" in reader.heard for reader in readers), what="the readers")
            ids = [record("a.b").id]
            first.process.send_signal(signal.SIGTERM)
            wait_for(lambda: is_draining(first), what="the drain")
            ids.append(record("a.b").id)
            wait_for(lambda: all(b"id: %d\n" % ids[-1] in reader.heard.replace(b"\r", b"") for reader in readers))
        finally:
            (tmp_path / "go").touch()  # or a failure would wait for the answers for ever
        assert [answer.result().text for answer in answers] == ["done"] * PIECES
        assert first.process.wait(DEADLINE_SECONDS) == 0
        reading.result()
        assert {reader.heard.count(b'"reason": "shutdown"') for reader in readers} == {1}
        ids.append(record("a.b").id)
        read_all(readers, second, ids[1], last=ids[-1])
        assert [reader.ids for reader in readers] == [ids] * READERS
        assert "Traceback" not in first.log.read_text()
