"""Work that a person breaks off: its caller and the log are told, and it is not repeated."""

import threading

import httpx

from access.models import Token
from events.models import EventLog
from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from tests.config.agents import agents_file
from tests.servers import wait_for


def types():
    return sorted(EventLog.objects.values_list("type", flat=True))


def test_sleep_breaks_work_off_only_with_force(serve, tmp_path):
    headers = {"Authorization": f"Bearer {Token.objects.issue('operator', 'operator')[1]}"}
    with agents_file(tmp_path) as environment:
        server = serve(DORMOUSE_ENGINE="process", **environment)
        address, answers = f"{server.url}/api/instances/works", []

        def work():
            answers.append(httpx.post(f"{address}/dispatch", content="3600", headers=headers, timeout=120))

        working = threading.Thread(target=work)
        working.start()
        wait_for(lambda: Lease.objects.filter(instance="works").exists())
        refused = httpx.post(f"{address}/sleep", headers=headers, timeout=60)
        assert (refused.status_code, refused.headers["Dormouse-Error"]) == (409, "work_in_flight")
        forced = httpx.post(f"{address}/sleep?force=true", headers=headers, timeout=60)
        assert forced.json() == {"state": "asleep"}
        working.join(60)
        assert answers[0].status_code == 502
        wait_for(lambda: "work.failed" in types())
        assert types() == ["container.lazy_started", "container.lazy_stopped", "work.failed"]
        assert Instance.objects.get(pk="works").state == State.ASLEEP
