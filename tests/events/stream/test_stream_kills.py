"""SIGKILL and restart under load, again and again. DORMOUSE_LONG=1 makes it a long loop."""

import os
import random
import time

import pytest

from events.log import record
from events.models import EventLog
from tests.events.stream.listening import LAST, Follower
from tests.events.stream.test_stream_resume import writing
from tests.servers import wait_for

pytestmark = pytest.mark.both_servers

LONG = bool(os.environ.get("DORMOUSE_LONG"))
KILLS = 60 if LONG else 4


def test_readers_that_resume_over_kills_end_with_exactly_the_ids_of_the_log(serve):
    servers = [serve(), serve()]
    start = record("start").id
    readers = [Follower(server, start) for server in servers * 3]
    writer = writing(servers[0], "a.b", 1_000_000, pause_seconds=0.003)
    try:
        for n in range(KILLS):
            server = servers[n % 2]
            progress = [len(reader.seen) for reader in readers]
            wait_for(lambda: all(len(r.seen) > was for r, was in zip(readers, progress, strict=True)))  # noqa: B023
            time.sleep(random.uniform(0, 0.3))  # so that the kill comes anywhere, not right after an event
            server.kill()
            server.start().wait_until_up()
    finally:
        writer.kill()  # as hard: what it had committed is in the log
        writer.wait()
    record(LAST)
    committed = list(EventLog.objects.after(start).values_list("id", flat=True))
    assert len(committed) > KILLS
    assert [reader.result() for reader in readers] == [committed] * len(readers)
    assert not any("stream-reset" in reader.told for reader in readers)
    assert all(reader.connections > KILLS / 2 for reader in readers)
