"""Work that comes when its agent has just ended and nobody has seen that yet: it goes to the next run, once."""

import os
import signal
from collections import Counter

import pytest

from tests.docker.support.from_outside import dispatch, types
from tests.servers import wait_for

ROUNDS = 10
#: Notes each work that it gets, and answers with it. A line that begins with `end` makes the agent exit with code 0.
COUNTS = """
cat > /www/cgi-bin/work << 'END'
#!/bin/sh
work=$(cat)
echo "$work" >> /works
printf 'Content-Type: text/plain\\r\\n\\r\\n%s' "$work"
END
busybox chmod +x /www/cgi-bin/work
busybox rm -f /end
httpd -f -p 8080 -h /www &
until [ -e /end ]; do sleep 0.02; done
"""


def exit_by_itself(containers, name):
    containers.touch(name, "/end")


def crash(containers, name):
    os.kill(containers.state(name)["Pid"], signal.SIGKILL)


def be_stopped(containers, name):
    containers.api.stop(name, timeout=0)


@pytest.mark.parametrize("end", [exit_by_itself, crash, be_stopped])
@pytest.mark.parametrize("reached", ["at its published port", "at its own address"])
def test_each_work_is_answered_and_delivered_once(server, containers, end, reached):
    is_published = reached == "at its published port"
    name = containers.create(
        command=["sh", "-c", COUNTS], exposed=is_published, port="8080", dispatch_path="/cgi-bin/work", ready_path="/"
    )
    works = [f"work {number}" for number in range(ROUNDS)]
    for work in works:
        answer = dispatch(server, name, work)
        assert (answer.status_code, answer.text) == (200, work)
        end(containers, name)
        wait_for(lambda: not containers.is_running(name), what="its end")
    assert Counter(containers.read(name, "/works").splitlines()) == Counter(works)
    assert types(name).count("lazy_started") == ROUNDS
    assert set(types(name)) <= {"lazy_started", "exited"}
