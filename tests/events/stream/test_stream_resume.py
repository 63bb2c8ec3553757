"""Nothing is missed and nothing comes twice: over processes, restarts and kills."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise

import httpx
import pytest

from events.log import record
from events.models import EventLog
from tests.events.stream.listening import ids, listening, take
from tests.servers import PROJECT

pytestmark = pytest.mark.both_servers

WRITE = """
import time
from django.db import transaction
from events.log import record
for n in range({count}):
    time.sleep({pause_seconds})
    with transaction.atomic():
        record("{type}", data={{"n": n}})
        transaction.set_rollback(n % 5 == 4)
"""


def writing(server, type, count, pause_seconds=0.0):
    """A management command, in a process of its own, that commits four of five events."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c"]
    command.append(WRITE.format(type=type, count=count, pause_seconds=pause_seconds))
    return subprocess.Popen(command, cwd=PROJECT, env=server.environment, stdout=subprocess.DEVNULL)


def read_until_last(server, cursor, count):
    with listening(server, f"?after={cursor}") as messages:
        return ids(take(messages, 1 + count))[1:]


def test_several_processes_write_and_each_reader_of_each_server_gets_everything_once(serve):
    servers = [serve(), serve()]
    start = record("start").id
    writers = [writing(servers[0], f"writer.{n}", 50) for n in range(2)]
    with ThreadPoolExecutor() as pool:
        reading = [pool.submit(read_until_last, server, start, 100) for server in servers * 2]
        for n in range(20):
            record("the.test", data={"n": n})
    assert [writer.wait() for writer in writers] == [0, 0]
    committed = list(EventLog.objects.after(start).values_list("id", flat=True))
    assert [found.result() for found in reading] == [committed] * 4


def test_a_restarted_server_replays_the_log(serve):
    server = serve()
    made = [record("a.b").id for _ in range(3)]
    server.restart()
    assert read_until_last(server, 0, 3) == made


@pytest.mark.uvicorn_too
def test_a_reader_resumes_after_a_kill_where_it_was(serve):
    server = serve()
    start = record("start").id
    with listening(server) as messages:
        next(messages)
        first = [record("a.b").id for _ in range(3)]
        assert ids(take(messages, 3)) == first
        server.kill()
        with suppress(httpx.RemoteProtocolError):  # cut off, as it should be
            assert list(messages) == []
    missed = [record("a.b").id for _ in range(3)]
    server.start().wait_until_up()
    with listening(server, **{"Last-Event-ID": str(first[-1])}) as messages:
        opened, *events = take(messages, 4)
        live = record("a.b").id
        assert next(messages).id == str(live)
    assert opened.id == str(first[-1])
    assert ids(events) == missed
    assert list(EventLog.objects.after(start).values_list("id", flat=True)) == [*first, *missed, live]


def test_a_reader_that_is_cut_again_and_again_gets_everything_once(serve):
    server = serve()
    cursor = start = record("start").id
    writer = writing(server, "a.b", 100)
    seen = []
    while len(seen) < 80:
        with listening(server, **{"Last-Event-ID": str(cursor)}) as messages:
            seen += ids(take(messages, 1 + min(7, 80 - len(seen))))[1:]
        cursor = seen[-1]
    assert writer.wait() == 0
    assert all(earlier < later for earlier, later in pairwise(seen))
    assert seen == list(EventLog.objects.after(start).values_list("id", flat=True))


def test_a_reader_moves_to_another_server_with_its_cursor(serve):
    one, other = serve(), serve()
    with listening(one) as messages, listening(other):
        next(messages)
        for _ in range(20):
            row = record("a.b")
            assert next(messages).id == str(row.id)
            with listening(other, **{"Last-Event-ID": str(row.id)}) as moved:
                assert next(moved).json() == {"cursor": row.id}
