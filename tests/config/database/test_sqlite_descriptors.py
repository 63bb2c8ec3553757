"""SQLite keeps a closed connection's descriptor while another connection is open, and uses it for the next one."""

import os
import threading
from pathlib import Path

import pytest
from django.db import connection

from lifecycle.models import Worker

AT_ONCE = 12
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("DORMOUSE_TEST_DATABASE_URL" in os.environ, reason="SQLite alone has files"),
]


def descriptors():
    """Return how many descriptors of this process are the database's file."""
    name = str(connection.settings_dict["NAME"])
    return sum(str(path.readlink()) == name for path in Path("/proc/self/fd").iterdir() if path.is_symlink())


def connect_at_once(count):
    """Open `count` connections at once, and close them."""
    all_are_open = threading.Barrier(count)

    def ask():
        Worker.objects.count()
        all_are_open.wait(60)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_descriptors_are_bounded_by_the_connections_that_were_open_at_once():
    Worker.objects.count()  # this connection stays open
    before = descriptors()
    for _ in range(5):
        connect_at_once(AT_ONCE)
        assert before <= descriptors() <= before + AT_ONCE  # earlier tests may have left some that are used again
