import pytest
from django.utils import timezone

from events.event_types import advice_on, display_of, format_duration, sentence_of
from events.models import EventLog


def event(type, instance="", /, **data):
    return EventLog(type=type, instance=instance, data=data)


def test_a_start_reads_with_its_latency():
    started = event("container.lazy_started", "reviewer-default", instance="reviewer-default", latency_ms=287)
    assert sentence_of(started) == "reviewer-default started in 287 ms"


@pytest.mark.parametrize(
    ("known", "end"),
    [
        ({"for": "PR 812", "by": "ci-bot", "by_kind": "token"}, " · PR 812 · by ci-bot"),
        ({"by": "ci-bot"}, " · by ci-bot"),
        ({"for": "PR 812"}, " · PR 812"),
        ({"for": "", "by": None}, ""),
        ({"for": ["x"], "by": 7}, " · ['x'] · by 7"),
    ],
)
def test_a_sentence_ends_with_what_the_work_was_for_and_who_ordered_it(known, end):
    started = event("container.lazy_started", "reviewer-default", latency_ms=287, **known)
    assert sentence_of(started) == f"reviewer-default started in 287 ms{end}"


@pytest.mark.parametrize(
    ("type", "data", "sentence"),
    [
        ("lazy_stopped", {"idle_seconds": 7, "trigger": "sleep"}, "put to sleep by alice"),
        ("lazy_stopped", {"idle_seconds": 7, "trigger": "sleep", "for": "PR 812"}, "put to sleep by alice · PR 812"),
        ("lazy_stopped", {"idle_seconds": 7, "trigger": "disabled"}, "stopped because it is disabled · by alice"),
        ("kept_awake", {"until": "2026-11-26T05:40:00.000Z"}, "kept awake until 05:40 by alice"),
        ("keep_awake_ended", {"until": "2026-11-26T05:40:00.000Z"}, "no longer kept awake by alice"),
        ("disabled", {"reason": "model key rotated"}, "disabled by alice: model key rotated"),
        ("disabled", {"reason": ""}, "disabled by alice"),
        ("enabled", {"reason": "model key rotated"}, "enabled by alice"),
    ],
)
def test_what_a_person_decided_reads_with_who_it_was(type, data, sentence):
    decided = event(f"container.{type}", "designer-default", by="alice", by_kind="user", **data)
    assert sentence_of(decided) == f"designer-default {sentence}"
    without = event(f"container.{type}", "designer-default", **data)
    assert sentence_of(without) == f"designer-default {sentence.replace(' · by alice', '').replace(' by alice', '')}"


def test_a_time_in_a_sentence_is_in_the_readers_zone():
    kept = event("container.kept_awake", "designer-default", until="2026-11-26T05:40:00.000Z")
    with timezone.override("Asia/Kolkata"):
        assert sentence_of(kept) == "designer-default kept awake until 11:10"


def test_a_stop_reads_with_its_idle_time():
    stopped = event("container.lazy_stopped", "designer-default", idle_seconds=12 * 60 + 59)
    assert sentence_of(stopped) == "designer-default stopped after 12 min idle"


def test_a_failure_reads_with_its_reason():
    failed = event("container.lazy_start_failed", "broken-default", error="exited with code 1 before it was ready")
    assert sentence_of(failed) == "broken-default failed to start: exited with code 1 before it was ready"
    assert display_of("container.lazy_start_failed").is_failure


@pytest.mark.parametrize(("more", "counted"), [({}, ""), ({"count": 1}, ""), ({"count": 40}, " (40 times)")])
def test_failed_work_reads_with_its_reason_and_how_often(more, counted):
    failed = event("work.failed", "reviewer-default", error="broke off after 12 s", status=502, **more)
    assert sentence_of(failed) == f"reviewer-default failed at work: broke off after 12 s{counted}"
    assert display_of("work.failed").is_failure


def test_a_stop_that_failed_reads_with_its_reason():
    failed = event("container.lazy_stop_failed", "designer-default", error="permission denied", idle_seconds=60)
    assert sentence_of(failed) == "designer-default could not be stopped: permission denied"
    assert display_of("container.lazy_stop_failed").is_failure


def test_an_unknown_type_reads_as_its_own_name():
    assert sentence_of(event("deploy.finished", "reviewer-default")) == "Deploy finished · reviewer-default"
    assert sentence_of(event("disk_almost.full")) == "Disk almost full"


@pytest.mark.parametrize(
    "type",
    [
        "container.lazy_started",
        "container.lazy_stopped",
        "container.lazy_start_failed",
        "work.failed",
        "container.kept_awake",
        "container.disabled",
    ],
)
@pytest.mark.parametrize(
    "data", [{}, {"latency_ms": "x", "idle_seconds": None, "error": 1}, {"until": 7, "reason": []}, {"until": "x"}]
)
def test_data_that_do_not_fit_the_sentence_still_read(type, data):
    assert "reviewer-default" in sentence_of(EventLog(type=type, instance="reviewer-default", data=data))


@pytest.mark.parametrize("type", [".", "_", "...", "é", "x"])
def test_every_type_has_a_title(type):
    assert display_of(type).title


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.287, "287 ms"),
        (0.999, "999 ms"),
        (1, "1 s"),
        (1.05, "1 s"),
        (4.2, "4.2 s"),
        (4.299, "4.2 s"),
        (45, "45 s"),
        (59.999, "59.9 s"),
        (60, "1 min"),
        (12 * 60 + 59, "12 min"),
        (59 * 60 + 59, "59 min"),
        (3600, "1 h"),
        (3600 + 5 * 60, "1 h 5 min"),
        (2 * 3600 + 59, "2 h"),
        (86400 - 1, "23 h 59 min"),
        (86400, "1 d"),
        (3 * 86400 + 4 * 3600 + 3599, "3 d 4 h"),
    ],
)
def test_durations_are_rounded_down_to_what_one_says(seconds, text):
    assert format_duration(round(seconds * 1000)) == text


@pytest.mark.parametrize(
    ("type", "data", "words"),
    [
        ("container.lazy_start_failed", {"cause": "oom"}, "more memory"),
        ("container.lazy_start_failed", {"cause": "start_rejected"}, ""),
        ("container.lazy_start_failed", {"cause": ["odd"]}, ""),
        ("container.exited", {"cause": "exited"}, "Read its output"),
        ("container.lazy_stop_failed", {}, "Stop it yourself"),
        ("work.failed", {"status": 504}, "dispatch-timeout"),
        ("work.failed", {"status": 500}, "Read its output at that time"),
        ("deploy.finished", {"cause": "exited"}, ""),
    ],
)
def test_advice_is_given_where_the_error_does_not_say_what_to_do(type, data, words):
    advice = advice_on(event(type, "a", **data))
    assert words in advice
    assert bool(words) == bool(advice)
