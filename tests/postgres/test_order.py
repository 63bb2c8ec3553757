"""The ids of the log are in the order of the commits, or a reader that goes by ids would miss one."""

from events.log import ADVISORY_LOCK
from tests.events.stream.listening import ids, listening, take
from tests.servers import wait_for

LATE = """
from django.db import connection, transaction
from events.log import record
with transaction.atomic():
    connection.cursor().execute("SELECT 1")
    pause("begun")
    print(record("late").id)
    pause("recorded")
"""
MANY = """
import random, time
from django.db import transaction
from events.log import record
for n in range(60):
    with transaction.atomic():
        time.sleep(random.random() / 100)
        record("a.b", data={"n": n})
        time.sleep(random.random() / 200)
        transaction.set_rollback(random.random() < 0.2)
"""
SHOW = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SHOW lock_timeout")
    print(cursor.fetchone()[0])
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def test_a_transaction_that_commits_late_keeps_no_reader_from_anything(site):
    """A writer has its id and has not committed. The next writer waits, and no reader sees a later id first."""
    start = site.record()
    servers = [site.serve(), site.serve()]
    with listening(servers[0]) as here, listening(servers[1]) as there:
        assert [next(here).event, next(there).event] == ["stream-open"] * 2
        late = site.run(LATE)
        assert late.said() == "begun"
        late.go_on()
        first = int(late.said())
        assert late.said() == "recorded"
        next_one = site.run("from events.log import record\nprint(record('next').id)")
        wait_for(lambda: site.ask(WAITING) == [1], what="the next writer to wait")
        assert site.ids() == [start]
        late.go_on()
        second = int(next_one.end())
        assert [ids(take(here, 2)), ids(take(there, 2))] == [[first, second]] * 2
    assert first < second


def test_others_pass_a_transaction_that_has_not_recorded_yet(site):
    server = site.serve()
    with listening(server) as messages:
        next(messages)
        late = site.run(LATE)
        assert late.said() == "begun"
        passing = [site.record(), site.record()]
        assert ids(take(messages, 2)) == passing
        late.go_on()
        recorded = int(late.said())
        assert late.said() == "recorded"
        late.go_on()
        late.end()
        assert ids(take(messages, 1)) == [recorded]
    assert site.ids() == [*passing, recorded]


def test_whoever_reads_on_from_the_last_id_sees_them_all(site):
    """Four writers at once have transactions of every length, and roll a fifth of them back."""
    writers = [site.run(MANY) for _ in range(4)]
    seen, last = [], 0
    while any(writer.process.poll() is None for writer in writers):
        seen += site.ask("SELECT id FROM event_log WHERE id > %s ORDER BY id", last)
        last = seen[-1] if seen else 0
    for writer in writers:
        writer.end()
    seen += site.ask("SELECT id FROM event_log WHERE id > %s ORDER BY id", last)
    assert seen == site.ids()
    assert 0 < len(seen) < 240
    assert seen[-1] - seen[0] >= len(seen)  # there are holes


def test_a_writer_does_not_wait_for_ever(site):
    with site.cluster.connected(site.database) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        waiting = site.run("from events.log import record\nrecord('a.b')", query="?options=-c%20lock_timeout%3D50ms")
        _, errors = waiting.process.communicate()
    assert "django.db.utils.OperationalError" in errors
    assert "lock timeout" in errors
    assert site.ids() == []


def test_no_writer_waits_without_a_limit(site):
    assert site.run(SHOW).end() == "20s\n"
