"""A connection that LISTENs is lost now and then, and so is the whole server. No reader loses anything by it."""

import os
import signal

from tests.events.stream.listening import Follower, ids, listening, take
from tests.servers import wait_for

WRITE = """
import time
from django.db import DatabaseError, connection
from events.log import record

def write(type, data={}):
    while True:
        try:
            return record(type, data=data)
        except DatabaseError:
            connection.close()
            time.sleep(0.02)

n = 0
while True:
    try:
        open(STOP).close()
    except FileNotFoundError:
        write("a.b", {"n": n})
        n += 1
        time.sleep(0.005)
    else:
        break
write("the.end")
"""


def writing(site):
    """A writer that goes on until the second value is called."""
    stop = site.folder / "stop"
    writer = site.run(f"STOP = {str(stop)!r}\n{WRITE}")

    def stop_writing():
        stop.touch()
        writer.end()

    return stop_writing


def kill_listeners(site):
    """Waits until there are connections that LISTEN, as many as web processes, and ends them."""
    pids = wait_for(lambda: len(found := site.listeners()) == len(site.servers) and found)
    for pid in pids:
        site.ask("SELECT pg_terminate_backend(%s)", pid)
    return pids


def test_an_event_arrives_after_the_listening_connection_was_killed(site):
    server = site.serve()
    with listening(server) as messages:
        next(messages)
        for _ in range(3):
            kill_listeners(site)
            made = [site.record(), site.record()]
            assert ids(take(messages, 2)) == made
        wait_for(site.listeners, what="the connection to come back")


def test_an_event_arrives_although_the_connection_that_listens_says_nothing_any_more(site):
    """Freeze the connection, as if its machine had disappeared: it stays open, and nothing comes."""
    server = site.serve()
    with listening(server) as messages:
        next(messages)
        (backend,) = wait_for(site.listeners)
        os.kill(backend, signal.SIGSTOP)
        try:
            made = [site.record(), site.record()]
            assert ids(take(messages, 2)) == made
        finally:
            os.kill(backend, signal.SIGCONT)


def test_while_listening_connections_are_killed_again_and_again_nothing_is_lost(site):
    servers = [site.serve(), site.serve()]
    start = site.record()
    readers = [Follower(server, start) for server in servers * 2]
    stop_writing = writing(site)
    for _ in range(5):
        kill_listeners(site)
        count = len(readers[0].seen)
        wait_for(lambda: all(len(reader.seen) > count + 10 for reader in readers))  # noqa: B023
    stop_writing()
    expected = site.ids()[1:]
    assert [reader.result() for reader in readers] == [expected] * 4
    assert [reader.connections for reader in readers] == [1] * 4  # none of them noticed


def test_a_server_that_was_restarted_under_load_costs_no_reader_anything(site):
    servers = [site.serve(), site.serve()]
    start = site.record()
    readers = [Follower(server, start) for server in servers * 2]
    stop_writing = writing(site)
    for end in (site.cluster.stop, site.cluster.kill):
        count = len(readers[0].seen)
        wait_for(lambda: all(len(reader.seen) > count + 20 for reader in readers))  # noqa: B023
        end()
        site.cluster.start()
    count = len(readers[0].seen)
    wait_for(lambda: all(len(reader.seen) > count + 20 for reader in readers))
    wait_for(lambda: len(site.listeners()) == 2, what="both to listen again")
    stop_writing()
    expected = site.ids()[1:]
    assert [reader.result() for reader in readers] == [expected] * 4
    assert not any("stream-reset" in reader.told for reader in readers)
