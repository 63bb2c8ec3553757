"""Work that fails in real containers is told with who ordered it, what for, and why."""

import threading

import httpx
import pytest

from lifecycle.models import Instance
from tests.docker.support.from_outside import logged
from tests.servers import DEADLINE_SECONDS, wait_for

#: Answers with the status that is its work. `hang` begins no answer, and of the answer to `break` half is sent.
FAILS = """
cat > /www/cgi-bin/work << 'END'
#!/bin/sh
work=$(cat)
case "$work" in
hang) sleep 600 ;;
break) printf 'Content-Length: 100\\r\\n\\r\\nhalf'; sleep 0.5; busybox kill -9 $PPID ;;
*) printf 'Status: %s Odd\\r\\nContent-Type: text/plain\\r\\n\\r\\nas it is' "$work" ;;
esac
END
busybox chmod +x /www/cgi-bin/work
exec httpd -f -p 8080 -h /www
"""


@pytest.fixture
def name(containers):
    return containers.create(
        command=["sh", "-c", FAILS], dispatch_path="/cgi-bin/work", ready_path="/", dispatch_timeout="2s"
    )


def work(server, name, what):
    """Return the status and the text of the answer. A text of None: it broke off."""
    url, headers = f"{server.url}/api/instances/{name}/dispatch", server.bearer | {"Dormouse-For": "PR 812"}
    with httpx.stream("POST", url, content=what, headers=headers, timeout=DEADLINE_SECONDS) as answer:
        try:
            return answer.status_code, answer.read().decode()
        except httpx.RemoteProtocolError:
            return answer.status_code, None


def told(name):
    wait_for(lambda: [event for event in logged(name) if event.type == "work.failed"], what="the failed work")
    (event,) = [event for event in logged(name) if event.type == "work.failed"]
    return event.data


@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_answer_of_the_agent_with_5xx_passes_and_is_told(server, name, status):
    assert work(server, name, str(status)) == (status, "as it is")
    data = told(name)
    assert (data["status"], data["by"], data["for"]) == (status, "environment", "PR 812")
    assert data["error"].startswith(f"answered {status} after ")


def test_an_answer_that_does_not_begin_in_time_is_told(server, name):
    assert work(server, name, "hang")[0] == 504
    data = told(name)
    assert (data["status"], data["for"]) == (504, "PR 812")
    assert data["error"].startswith("had not begun its answer after ")


def test_an_answer_that_breaks_off_is_told(server, name):
    assert work(server, name, "break") == (200, None)
    data = told(name)
    assert (data["status"], data["for"]) == (200, "PR 812")
    assert data["error"].startswith("broke off after ")


def test_any_other_answer_is_no_failure_and_ends_the_one_before(server, name):
    work(server, name, "500")
    wait_for(lambda: Instance.objects.get(pk=name).work_failure, what="the failed work on the card")
    assert work(server, name, "404") == (404, "as it is")
    wait_for(lambda: Instance.objects.get(pk=name).work_failure is None, what="the success on the card")
    assert told(name)["status"] == 500


def test_work_in_flight_says_who_ordered_it_and_what_for(server, containers):
    name = containers.create(environment={"HOLD": "1"}, dispatch_path="/cgi-bin/work", ready_path="/")
    working = threading.Thread(target=work, args=[server, name, "x"])
    working.start()

    def leases():
        return httpx.get(f"{server.url}/api/instances/{name}", headers=server.bearer).json().get("leases")

    (lease,) = wait_for(leases, what="the work")
    assert (lease["by"], lease["by_kind"], lease["for"]) == ("environment", "token", ["PR 812"])
    containers.touch(name, "/go")
    working.join()
    started = logged(name)[0]
    assert (started.type, started.data["by"], started.data["for"]) == (
        "container.lazy_started",
        "environment",
        "PR 812",
    )
