import subprocess
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from access.models import Token
from events.log import record
from events.models import EventLog
from lifecycle import signals
from lifecycle.models import EngineStatus, Instance
from lifecycle.state_machine import State
from telling.metrics import process
from telling.metrics.exposition import render
from telling.models import Subscription
from telling.subscriptions.targets import parse
from tests.conftest import need

pytestmark = pytest.mark.django_db
BEARER = {"Authorization": "Bearer the-tests-token"}


@pytest.fixture(autouse=True)
def no_agent_of_another_test():
    process.forget_all_but(frozenset())


def register(*names, **values):
    for name in names:
        Instance.objects.register(name, now=timezone.now(), idle_timeout=None)
        Instance.objects.filter(pk=name).update(**values)


def scrape(limits=()):
    """Return the values by name and labels, as `{'dormouse_streams_open': {(): 0.0}}`."""
    found = {}
    for family in text_string_to_metric_families(render(limits).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def of(**labels):
    return tuple(sorted(labels.items()))


def test_starts_stops_and_exits_are_counted_by_agent():
    register("a")
    record("container.lazy_started", instance="a", data={"trigger": "dispatch"})
    record("container.lazy_started", instance="a", data={"trigger": "wake"})
    record("container.lazy_start_failed", instance="a", data={"cause": "oom"})
    record("container.lazy_stopped", instance="a", data={"trigger": "sleep"})
    record("container.lazy_stopped", instance="a", data={})  # of an earlier version
    record("container.exited", instance="a", data={"cause": "oom"})
    record("container.exited", instance="a", data={"cause": "lost"})
    found = scrape()
    starts, stops = found["dormouse_agent_starts_total"], found["dormouse_agent_stops_total"]
    assert starts[of(agent="a", outcome="started", cause="")] == 2
    assert starts[of(agent="a", outcome="failed", cause="oom")] == 1
    assert stops[of(agent="a", outcome="stopped", trigger="sleep")] == 1
    assert stops[of(agent="a", outcome="stopped", trigger="")] == 1
    exits = found["dormouse_agent_exits_total"]
    assert (exits[of(agent="a", cause="oom")], exits[of(agent="a", cause="lost")]) == (1, 1)
    assert found["dormouse_events_total"][of(type="container.lazy_started")] == 2


def test_a_subscription_has_one_state():
    latest = record("a.b", at=timezone.now() - timedelta(minutes=2)).id
    for name, cursor in (("ops", latest), ("ci", 0)):
        Subscription.objects.subscribe(parse("https://example.org/"), name=name, cursor=cursor)
    assert {labels for labels, value in scrape()["dormouse_subscription_state"].items() if value} == {
        of(subscription="ops", state="delivering"),
        of(subscription="ci", state="behind"),
    }


def test_every_cause_begins_with_0():
    """Prometheus sees no increase in a counter that begins with 1."""
    register("a")
    starts = scrape()["dormouse_agent_starts_total"]
    assert starts[of(agent="a", outcome="failed", cause="not_ready")] == 0
    assert starts[of(agent="a", outcome="started", cause="")] == 0


def test_an_agent_has_one_state():
    register("a", state=State.READY)
    register("b", disabled={"at": "2026-11-26T00:00:00Z", "reason": ""})
    found = scrape()
    assert {labels for labels, value in found["dormouse_agent_state"].items() if value} == {
        of(agent="a", state="ready"),
        of(agent="b", state="asleep"),
    }
    assert found["dormouse_agent_disabled"] == {of(agent="a"): 0, of(agent="b"): 1}


def test_an_agent_that_is_gone_disappears():
    register("a", "gone")
    for name in ("a", "gone"):
        record("container.exited", instance=name, data={"cause": "oom"})
        signals.send(signals.dispatched, instance=name, status=200)
    assert b'agent="gone"' in render()
    Instance.objects.filter(pk="gone").update(present=False)
    text = render()
    assert b'agent="gone"' not in text
    assert b'agent="a"' in text
    assert not any("gone" in labels for labels in process.DISPATCHES._metrics)  # the memory does not grow
    assert scrape()["dormouse_events_total"][of(type="container.exited")] == 2


def test_names_cannot_forge_lines():
    register('a"}\ndormouse_forged 1\n#')
    assert "dormouse_forged" not in scrape()


def test_dispatches_are_counted_by_status():
    register("a")
    of_nobody = of(agent="", status="401")
    before = scrape().get("dormouse_dispatches_total", {}).get(of_nobody, 0)  # by other tests of this process
    for status in (200, 200, 502, 299):
        signals.send(signals.dispatched, instance="a", status=status)
    signals.send(signals.dispatched, instance="", status=401)
    dispatches = scrape()["dormouse_dispatches_total"]
    assert dispatches[of(agent="a", status="200")] == 2
    assert dispatches[of(agent="a", status="502")] == 1
    assert dispatches[of(agent="a", status="2xx")] == 1  # an agent may invent numbers
    assert dispatches[of_nobody] == before + 1


def test_a_wake_is_told_apart_from_the_overhead():
    before = scrape()
    signals.send(signals.dispatched, instance="", status=200, overhead_seconds=0.003)
    signals.send(signals.dispatched, instance="", status=200, overhead_seconds=3, wake_seconds=2)
    after = scrape()
    grown = {
        name: after[f"dormouse_dispatch_{name}"][()] - before[f"dormouse_dispatch_{name}"][()]
        for name in ("overhead_seconds_count", "overhead_seconds_sum", "wake_wait_seconds_sum")
    }
    assert grown == pytest.approx(
        {"overhead_seconds_count": 1, "overhead_seconds_sum": 0.003, "wake_wait_seconds_sum": 2}
    )


def test_a_start_is_observed_when_it_is_committed(django_capture_on_commit_callbacks):
    register("a")
    with django_capture_on_commit_callbacks(execute=True):
        process.note_start(None, instance="a", run=1, latency_ms=300)  # the signal would also mark an id as seen
        assert b"dormouse_agent_start_duration_seconds_count{" not in render()
    assert scrape()["dormouse_agent_start_duration_seconds_sum"] == {of(agent="a"): 0.3}


def test_an_engine_that_does_not_answer_is_told():
    now = timezone.now()
    EngineStatus.objects.create(engine="docker", asked=now, error="of an earlier setting")
    EngineStatus.objects.create(engine="process", asked=now, answered=now)
    assert scrape()["dormouse_engine_reachable"] == {of(engine="process"): 1}
    EngineStatus.objects.filter(engine="process").update(answered=now - timedelta(seconds=9), error="no answer")
    found = scrape()
    assert found["dormouse_engine_reachable"] == {of(engine="process"): 0}
    assert found["dormouse_engine_asked_age_seconds"][of(engine="process")] >= 0


def test_a_scrape_costs_no_write_and_as_many_queries_for_a_long_log():
    register("a")

    def queries():
        with CaptureQueriesContext(
            connection,
        ) as captured:
            render()
        return [query["sql"].split()[0] for query in captured]

    few = queries()
    for _ in range(50):
        record("container.exited", instance="a", data={"cause": "oom"})
        record("deploy.finished", instance="a")
    assert queries() == few
    assert set(few) == {"SELECT"}


def test_it_is_for_users_who_may_see_events():
    assert Client().get("/metrics").status_code == 401
    user = User.objects.create_user("x")
    client = Client()
    client.force_login(user)
    assert client.get("/metrics").status_code == 403
    user.groups.add(Group.objects.get(name="Viewers"))
    assert client.get("/metrics").status_code == 200
    answer = Client().get("/metrics", headers=BEARER)
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"dormouse_build_info" in answer.content


def test_a_token_for_one_agent_sees_no_other(uses_are_written_at_once):
    register("a", "b")
    record("container.exited", instance="b", data={"cause": "oom"})
    for name in ("a", "b", ""):
        signals.send(signals.dispatched, instance=name, status=200, overhead_seconds=1)
    token = Token.objects.issue("only-a", "viewer", instances=["a"])[1]
    text = Client().get("/metrics", headers={"Dormouse-Token": token}).content.decode()
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert samples
    assert all('agent="a"' in line for line in samples)


def test_log_position_is_that_of_the_latest_event():
    last = [record("deploy.finished") for _ in range(3)][-1]
    found = scrape()
    assert found["dormouse_log_position"] == {(): last.id}
    assert found["dormouse_log_oldest"] == {(): EventLog.objects.earliest("id").id}


def test_promtool_finds_nothing_to_mend():
    """The names, units and labels are those of Prometheus's conventions."""
    need(
        "prometheus",
        subprocess.run(["which", "promtool"], capture_output=True).returncode == 0,
        "apt-get install prometheus",
    )
    register("a")
    signals.send(signals.dispatched, instance="a", status=200, wake_seconds=1, overhead_seconds=1)
    checked = subprocess.run(["promtool", "check", "metrics"], input=render(), capture_output=True)
    assert (checked.returncode, checked.stderr.decode(), checked.stdout.decode()) == (0, "", "")
