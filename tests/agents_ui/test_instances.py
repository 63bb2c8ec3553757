import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains

from events.log import record
from lifecycle.models import EngineStatus, Instance, Lease
from lifecycle.state_machine import State
from telling.models import Subscription
from telling.subscriptions.targets import parse

ADDRESS = "/agents/instances"
UUID = "7d4f9f0e-3a55-4d5c-9d5e-2f1f6d0b8c11"


@pytest.fixture
def now(db: None) -> datetime:
    """Also: the engine has just answered."""
    now = timezone.now()
    EngineStatus.objects.create(engine="process", asked=now, answered=now)
    return now


def instance(name: str = "reviewer-default", **values: Any) -> Instance:
    return Instance.objects.create(name=name, **{"since": timezone.now()} | values)


@pytest.mark.parametrize("state", State.values)
def test_the_state_is_said_in_words_with_an_icon_and_since_when(signed_in: Client, now: datetime, state: str):
    instance(state=state, since=now.replace(hour=0, minute=0, second=0))
    page = signed_in.get(ADDRESS)
    assertContains(page, f"</svg>{state}</span>")
    assertContains(page, "00:00:00 UTC</time>")


def test_a_moment_of_another_day_has_its_date(signed_in: Client, now: datetime):
    instance(since=datetime(2025, 3, 1, 14, 2, 11, tzinfo=now.tzinfo))
    assertContains(signed_in.get(ADDRESS), "1 Mar 2025, 14:02:11 UTC</time>")


def test_the_page_has_the_same_fragment(signed_in: Client, now: datetime):
    instance()
    fragment = signed_in.get(ADDRESS).content.decode().strip()
    assert fragment in signed_in.get("/agents/").content.decode()


def test_an_idle_instance_says_when_it_will_sleep(signed_in: Client, now: datetime):
    used = now + timedelta(seconds=1)
    instance(state="ready", last_used=used, idle_timeout=timedelta(hours=1))
    assertContains(signed_in.get(ADDRESS), f'Idle: sleeps at <time datetime="{(used + timedelta(hours=1)).isoformat()}')


def test_one_that_is_due_is_about_to_sleep(signed_in: Client, now: datetime):
    instance(state="ready", last_used=now - timedelta(hours=2), idle_timeout=timedelta(hours=1))
    assertContains(signed_in.get(ADDRESS), "Idle: about to sleep")


def test_one_that_is_paused_says_so(signed_in: Client, now: datetime):
    instance(last_used=now, mode="pause")
    assertContains(signed_in.get(ADDRESS), "Paused, and in memory. Last work ended")


def test_one_that_another_needs_says_so_and_is_not_about_to_sleep(signed_in: Client, now: datetime):
    instance(state="ready", last_used=now - timedelta(hours=2), idle_timeout=timedelta(hours=1))
    instance("<writer>", state="ready", needs=["reviewer-default"])
    assertContains(signed_in.get(ADDRESS), "Idle: awake because &lt;writer&gt; needs it")
    assertNotContains(signed_in.get(ADDRESS), "about to sleep")


@pytest.mark.parametrize("timeout", [None, timedelta(0)])
def test_one_without_a_timeout_never_sleeps(signed_in: Client, now: datetime, timeout: timedelta | None):
    instance(state="ready", last_used=now, idle_timeout=timeout)
    assertContains(signed_in.get(ADDRESS), "Idle: never put to sleep")


def test_work_in_flight_is_said_and_keeps_it_awake(signed_in: Client, now: datetime):
    row = instance(state="ready", last_used=now, idle_timeout=timedelta(hours=1))
    for _ in range(2):
        Lease.objects.create(instance=row, worker=UUID, since=now)
    page = signed_in.get(ADDRESS)
    assertContains(page, "2 pieces of work in flight, the oldest since")
    assertNotContains(page, "Idle")


def test_a_start_that_has_just_failed_stands_out(signed_in: Client, now: datetime):
    failure = {"run": 3, "at": now.isoformat(), "error": "exited with <code> 1"}
    instance(run=3, failure=failure)
    page = signed_in.get(ADDRESS)
    assertContains(page, "<strong>Failed to start</strong> at")
    assertContains(page, "exited with &lt;code&gt; 1")


def test_one_that_failed_before_its_last_run_does_not(signed_in: Client, now: datetime):
    instance(run=4, failure={"run": 3, "at": "some day", "error": "exited"})
    page = signed_in.get(ADDRESS)
    assertContains(page, "<strong>Last failed start</strong>: exited")
    assertNotContains(page, "Failed to start")


def test_what_is_wrong_with_labels_is_said(signed_in: Client, now: datetime):
    instance(label_error="dormouse.port is “eighty”", label_warning="restarts by itself")
    page = signed_in.get(ADDRESS)
    assertContains(page, "dormouse.port is “eighty”")
    assertContains(page, "restarts by itself")


def test_one_that_is_gone_is_shown_only_as_long_as_it_has_something_to_say(signed_in: Client, now: datetime):
    instance("gone", present=False)
    instance("stopping", present=False, state="stopping")
    page = signed_in.get(ADDRESS)
    assertNotContains(page, "agent-gone")
    assertContains(page, "The engine no longer has it.")


def test_no_instances_says_how_to_have_one(signed_in: Client, now: datetime, settings: Any):
    assertContains(signed_in.get(ADDRESS), "DORMOUSE_AGENTS_FILE")
    settings.DORMOUSE_ENGINE = "docker"
    assertContains(signed_in.get(ADDRESS), "--label dormouse.enable=true")


def test_all_is_quiet_while_the_engine_answers(signed_in: Client, now: datetime):
    assertNotContains(signed_in.get(ADDRESS), "notice")


def test_an_engine_that_does_not_answer_is_said_with_its_error(signed_in: Client, now: datetime):
    EngineStatus.objects.update(error="no such socket <here>", answered=now - timedelta(minutes=1))
    page = signed_in.get(ADDRESS)
    assertContains(page, "The process engine does not answer.")
    assertContains(page, "no such socket &lt;here&gt;")


def test_an_error_of_a_sweep_is_not_said_to_be_the_engines(signed_in: Client, now: datetime):
    EngineStatus.objects.update(error="the sweep failed (KeyError('x'))", asked=now, answered=now)
    page = signed_in.get(ADDRESS)
    assertContains(page, "Looking at the agents failed.")
    assertContains(page, "the sweep failed (KeyError(&#x27;x&#x27;))")
    assertNotContains(page, "does not answer")


def test_a_neighbour_is_said_with_what_its_mark_says(signed_in: Client, now: datetime):
    EngineStatus.objects.update(neighbour="it is on host <build-7>")
    page = signed_in.get(ADDRESS)
    assertContains(page, "Another Dormouse has these agents.")
    assertContains(page, "it is on host &lt;build-7&gt;")


def test_a_neighbour_that_was_refused_is_said_on_the_owners_page(signed_in: Client, now: datetime):
    EngineStatus.objects.update(refused_neighbour="host <build-7>")
    page = signed_in.get(ADDRESS)
    assertContains(page, "Another Dormouse wants these agents.")
    assertContains(page, "host &lt;build-7&gt;")


def test_the_fragment_is_sent_again_when_a_neighbour_is_found(signed_in: Client, now: datetime):
    tag = signed_in.get(ADDRESS)["ETag"]
    EngineStatus.objects.update(neighbour="it is on host build-7")
    assert signed_in.get(ADDRESS, headers={"If-None-Match": tag}).status_code == 200


def test_a_supervisor_that_has_never_asked_is_reported(signed_in: Client):
    page = signed_in.get(ADDRESS)
    assertContains(page, "No supervisor has asked the process engine yet.")


@pytest.mark.parametrize(("seconds", "said"), [(61, True), (50, False)])
def test_a_supervisor_that_is_silent_for_a_minute_is_reported(
    signed_in: Client, now: datetime, seconds: int, said: bool
):
    EngineStatus.objects.update(asked=now - timedelta(seconds=seconds))
    assert ("No supervisor has asked" in signed_in.get(ADDRESS).content.decode()) is said


def test_the_fragment_is_not_sent_again_until_it_changes(signed_in: Client, now: datetime):
    row = instance()
    tag = signed_in.get(ADDRESS)["ETag"]
    assert signed_in.get(ADDRESS, headers={"If-None-Match": tag}).status_code == 304
    Instance.objects.filter(pk=row.pk).update(state="starting")
    assert signed_in.get(ADDRESS, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize(
    ("values", "state"),
    [({}, "behind"), ({"failing_since": timezone.now()}, "failing"), ({"paused": timezone.now()}, "paused")],
)
def test_a_subscription_that_is_behind_has_a_line(signed_in: Client, now: datetime, values: Any, state: str):
    latest = record("a.b", at=now - timedelta(minutes=2)).id
    Subscription.objects.subscribe(parse("https://example.org/"), name="ops", cursor=latest - 1, **values)
    page = signed_in.get(ADDRESS)
    assertContains(page, f"Not every event was delivered yet to:</strong> ops ({state}).")
    Subscription.objects.update(cursor=latest, failing_since=None, paused=None)
    again = signed_in.get(ADDRESS, headers={"If-None-Match": page["ETag"]})
    assert again.status_code == 200
    assertNotContains(again, "Not every event")


def test_a_subscription_that_waits_for_less_than_a_minute_has_no_line(signed_in: Client, now: datetime):
    latest = record("a.b", at=now - timedelta(seconds=50)).id
    Subscription.objects.subscribe(parse("https://example.org/"), name="ops", cursor=latest - 1)
    assertNotContains(signed_in.get(ADDRESS), "Not every event")


def test_no_instance_costs_a_query_of_its_own(signed_in: Client, now: datetime, django_assert_num_queries: Any):
    for number in range(5):
        instance(f"agent-{number}")
    signed_in.get(ADDRESS)
    with django_assert_num_queries(12):  # session, user, permissions of user and groups, instances, leases, ...
        signed_in.get(ADDRESS)


def test_counts_lead_to_groups_and_the_failed_come_first(signed_in: Client, now: datetime):
    instance("sleeper")
    instance("a-ready", state="ready", last_used=now)
    Lease.objects.create(instance=instance("worker", state="ready"), worker=UUID, since=now - timedelta(minutes=23))
    instance("typo", label_error="dormouse.port='x' is no port")
    instance("broken", run=3, failure={"run": 3, "at": now.isoformat(), "error": "no"})
    page = signed_in.get(ADDRESS).content.decode()
    counts = ["1 failed", "1 in error", "1 working", "1 ready", "1 asleep"]
    links = re.findall(r'<a href="#([\w-]+)">(\d+ [\w ]+)</a>', page)
    assert [words for _, words in links] == counts
    assert all(f'id="{anchor}"' in page for anchor, _ in links)
    assert re.findall(r'id="agent-([\w-]+)"', page) == ["broken", "typo", "worker", "a-ready", "sleeper"]


def test_above_twelve_the_quiet_sleepers_fold(signed_in: Client, now: datetime):
    for number in range(12):
        instance(f"sleeper-{number:02}")
    assertNotContains(signed_in.get(ADDRESS), "<details")
    instance("warned", label_warning="dormouse.enabled is no label")
    page = signed_in.get(ADDRESS)
    assertContains(page, "12 asleep, with nothing to report</summary>")
    assert page.content.decode().index("agent-warned") < page.content.decode().index("<details")


def test_a_failed_start_leads_to_its_event_and_says_how_many_there_were(signed_in: Client, now: datetime):
    record("container.lazy_start_failed", instance="broken", data={"error": "earlier"})
    good = record("container.lazy_started", instance="broken", data={"latency_ms": 400})
    last = [record("container.lazy_start_failed", instance="broken", data={"error": "no"}).id for _ in range(3)][-1]
    instance("broken", run=3, failure={"run": 3, "at": now.isoformat(), "error": "no"})
    page = signed_in.get(ADDRESS)
    assertContains(page, f'<a href="/agents/activity/{last}">Details</a>')
    assertContains(page, "3 failed starts in a row.")
    assertContains(page, f'The last good start was <time datetime="{good.at.isoformat()}')


def test_a_failure_fades_after_a_day(signed_in: Client, now: datetime):
    at = now - timedelta(hours=25)
    instance("broken", run=3, failure={"run": 3, "at": at.isoformat(), "error": "no"})
    page = signed_in.get(ADDRESS)
    assertContains(page, "Failed to start")
    assertNotContains(page, "trouble bad")
    assertContains(page, "1 asleep")


def fail_at_work(name: str, at: datetime, **values: Any) -> None:
    instance(name, work_failure={"at": at.isoformat(), "error": "answered 500 after 12 s", "status": 500}, **values)


def test_failed_work_is_told_on_the_card_and_leads_to_its_event(signed_in: Client, now: datetime):
    told = record("work.failed", instance="broken", data={"error": "answered 500 after 12 s", "status": 500})
    fail_at_work("broken", now, state="ready", last_used=now)
    page = signed_in.get(ADDRESS)
    assertContains(page, "Failed at work")
    assertContains(page, f': answered 500 after 12 s <a href="/agents/activity/{told.id}">Details</a>')
    assertContains(page, "1 failed")


def test_failed_work_fades_after_a_day(signed_in: Client, now: datetime):
    fail_at_work("broken", now - timedelta(hours=25))
    page = signed_in.get(ADDRESS)
    assertContains(page, "Failed at work")
    assertNotContains(page, "trouble bad")
    assertContains(page, "1 asleep")


def test_the_end_of_a_run_tells_why_its_work_failed(signed_in: Client, now: datetime):
    ended = {"at": now.isoformat(), "exit_code": 3, "cause": "exited", "ran_seconds": 184, "work_in_flight": 1}
    fail_at_work("broken", now, exit=ended)
    page = signed_in.get(ADDRESS)
    assertContains(page, "Ended by itself")
    assertNotContains(page, "Failed at work")


def test_an_end_by_itself_fades_after_a_day(signed_in: Client, now: datetime):
    ended = {"exit_code": 3, "cause": "exited", "ran_seconds": 184, "work_in_flight": 1}
    instance("yesterday", exit=ended | {"at": (now - timedelta(hours=25)).isoformat()})
    assertNotContains(signed_in.get(ADDRESS), "trouble bad")
    instance("today", exit=ended | {"at": now.isoformat()})
    page = signed_in.get(ADDRESS)
    assertContains(page, "Ended by itself", count=2)
    assertContains(page, "trouble bad", count=1)
    assertContains(page, "1 failed")
    assertContains(page, "1 asleep")


def test_a_disabled_one_says_why_and_comes_before_those_at_work(signed_in: Client, now: datetime):
    Lease.objects.create(instance=instance("worker", state="ready"), worker=UUID, since=now)
    instance("key", disabled={"at": now.isoformat(), "reason": "model key rotated", "force": False, "by": "alice"})
    page = signed_in.get(ADDRESS)
    assertContains(page, "1 disabled")
    assertContains(page, ": model key rotated. It takes no work until it is enabled.")
    assert re.findall(r'id="agent-([\w-]+)"', page.content.decode()) == ["key", "worker"]


def test_a_sleeper_says_when_its_last_work_ended(signed_in: Client, now: datetime):
    instance(last_used=now)
    assertContains(signed_in.get(ADDRESS), f'Last work ended <time datetime="{now.isoformat()}')


def test_near_misses_are_shown(signed_in: Client, now: datetime):
    EngineStatus.objects.update(near_misses=["web: 'dormouse.enabled' is not 'dormouse.enable'"])
    assertContains(signed_in.get(ADDRESS), "web: &#x27;dormouse.enabled&#x27; is not &#x27;dormouse.enable&#x27;")


def test_agents_that_the_engine_has_lost_are_named(signed_in: Client, now: datetime):
    Instance.objects.create(name="agent-pruned", since=now, present=False, absent_since=now)
    Instance.objects.create(name="agent-of-old", since=now, present=False, absent_since=now - timedelta(days=8))
    page = signed_in.get(ADDRESS)
    assertContains(page, "The engine does not have these agents any more:")
    assertContains(page, "agent-pruned</a>, since")
    assertNotContains(page, "No agents yet")
    assertNotContains(page, "agent-of-old</a>, since")


def test_an_engine_that_is_down_does_not_say_how_to_have_an_agent(signed_in: Client, now: datetime):
    EngineStatus.objects.update(error="refused", answered=None)
    assertNotContains(signed_in.get(ADDRESS), "No agents yet")
