"""What others do to containers while Dormouse runs: its rows follow, and no lazy event is invented."""

import httpx
import pytest
from django.utils import timezone

from lifecycle.engines.labels import ENABLE
from lifecycle.models import Instance, Lease
from lifecycle.state_machine import State
from tests.docker.support.containers import IMAGE
from tests.docker.support.from_outside import WORK, dispatch, types
from tests.servers import DEADLINE_SECONDS, wait_for


@pytest.fixture
def api(containers):
    return containers.api


@pytest.fixture
def sleeper(containers, supervised):
    """An instance that is asleep, and known."""
    name = containers.create(**WORK)
    wait_for(lambda: Instance.objects.filter(pk=name), what="the new one")
    return name


@pytest.fixture
def awake(sleeper, supervised):
    """One that Dormouse woke."""
    supervised.waking.wake(sleeper)
    assert types(sleeper) == ["lazy_started"]
    return sleeper


def follows(name, state, **facts):
    """Waits for the row; it says since when, and nothing was told but what Dormouse did."""
    before = types(name)
    row = wait_for(lambda: Instance.objects.filter(pk=name, state=state, **facts).first(), what=f"{state} {facts}")
    assert types(name) == before
    return row


def test_one_that_others_start_is_ready_since_then_and_its_idle_clock_begins(api, sleeper):
    began = timezone.now()
    api.start(sleeper)
    row = follows(sleeper, State.READY, probed=False)
    assert row.since == row.last_used > began
    assert types(sleeper) == []


def test_one_that_others_start_is_probed_at_its_dispatch_and_not_started(api, sleeper, supervised, engine_log):
    api.start(sleeper)
    follows(sleeper, State.READY)
    supervised.waking.wake(sleeper)
    follows(sleeper, State.READY, probed=True)
    assert engine_log.actions(sleeper) == ["start"]
    assert types(sleeper) == []


@pytest.mark.parametrize("act", ["stop", "kill", "pause"])
def test_one_that_others_end_is_asleep_since_then(api, awake, act):
    began = timezone.now()
    getattr(api, act)(awake)
    assert follows(awake, State.ASLEEP).since > began
    assert types(awake) == ["lazy_started"]


def test_one_that_others_end_is_woken_by_the_next_dispatch(api, awake, supervised, engine_log):
    api.kill(awake)
    supervised.waking.wake(awake)
    assert types(awake) == ["lazy_started", "lazy_started"]
    assert Instance.objects.get(pk=awake).run == 2


def test_one_that_is_paused_and_resumed_is_ready_again(api, awake):
    api.pause(awake)
    paused = follows(awake, State.ASLEEP)
    api.unpause(awake)
    resumed = follows(awake, State.READY)
    assert resumed.incarnation == paused.incarnation
    assert types(awake) == ["lazy_started"]


def test_one_that_others_restart_is_another_incarnation(api, awake):
    before = Instance.objects.get(pk=awake)
    api.restart(awake)
    wait_for(lambda: Instance.objects.filter(pk=awake, state=State.READY).exclude(incarnation=before.incarnation))
    assert types(awake) == ["lazy_started"]


def test_one_that_is_removed_is_asleep_and_said_to_be_gone(api, awake):
    api.remove_container(awake, force=True)
    follows(awake, State.ASLEEP, present=False)
    assert types(awake) == ["lazy_started"]


def created_again(api, name, image=IMAGE, **labels):
    api.remove_container(name, force=True)
    made = {ENABLE: "true", "dormouse.ready": "running", "dormouse.port": "8080"} | labels
    api.create_container(image, ["sleep", "3600"], name=name, labels=made)


def test_one_that_is_made_anew_of_another_image_is_asleep_and_then_started_as_such(api, awake, supervised):
    api.tag(IMAGE, f"{IMAGE}-other")
    created_again(api, awake, f"{IMAGE}-other")
    row = follows(awake, State.ASLEEP, present=True)
    supervised.waking.wake(awake)
    again = Instance.objects.get(pk=awake)
    assert (again.state, again.run) == (State.READY, row.run + 1)
    assert again.incarnation.startswith(api.inspect_container(awake)["Id"])
    assert api.inspect_container(awake)["Config"]["Image"] == f"{IMAGE}-other"


def test_one_that_is_made_anew_with_other_labels_is_seen_with_them(api, sleeper):
    created_again(api, sleeper, **{"dormouse.idle-timeout": "7s"})
    wait_for(lambda: Instance.objects.get(pk=sleeper).idle_timeout.total_seconds() == 7)


def test_one_that_is_made_anew_with_a_wrong_label_says_so(api, awake):
    created_again(api, awake, **{"dormouse.idle-timeout": "soon"})
    row = wait_for(lambda: Instance.objects.exclude(label_error="").filter(pk=awake).first())
    assert row.label_error.startswith(f"{awake}: dormouse.idle-timeout='soon' is no duration")


def test_one_that_loses_its_label_is_left_alone(api, awake, engine_log):
    created_again(api, awake, **{ENABLE: "false", "dormouse.idle-timeout": "1ms"})
    follows(awake, State.ASLEEP, present=False)
    api.start(awake)
    wait_for(lambda: engine_log.actions(awake)[-1:] == ["start"])
    assert follows(awake, State.ASLEEP, present=False)


def test_one_that_is_renamed_goes_by_its_new_name(api, awake, containers):
    new = f"{awake}-renamed"
    api.rename(awake, new)
    containers.remove_too(new)
    follows(awake, State.ASLEEP, present=False)
    row = follows(new, State.READY, present=True)
    assert row.incarnation == Instance.objects.get(pk=awake).incarnation
    assert (types(awake), types(new)) == (["lazy_started"], [])


def test_one_that_dies_while_it_works_is_woken_by_the_next_dispatch(server, containers, engine_log):
    name = containers.create(environment={"HOLD": "1"}, **WORK)
    url = f"{server.url}/api/instances/{name}/dispatch"
    with httpx.stream("POST", url, content="x", headers=server.bearer, timeout=DEADLINE_SECONDS) as answer:
        parts = answer.iter_text()
        next(parts)
        containers.api.kill(name)
        assert "done" not in "".join(parts)  # an HTTP/1.0 answer ends with its connection, and has no other sign
    wait_for(lambda: Instance.objects.filter(pk=name, state=State.ASLEEP))
    wait_for(lambda: not Lease.objects.filter(instance=name), what="the end of the lease")
    containers.touch(name, "/go")
    assert dispatch(server, name, "again").text == "working on: again\ndone\n"
    assert types(name) == ["lazy_started", "lazy_started"]
    assert engine_log.actions(name) == ["start", "die", "start"]
