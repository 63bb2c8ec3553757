"""Wakes for coroutines: one leader in a thread, and a waiting caller that leaves harms no other."""

import asyncio
import threading

import pytest

from lifecycle.dispatch.wakes import SHORT_WORK_THREADS, THREADS_PER_INSTANCE, Wakes
from lifecycle.engines.base import Phase
from lifecycle.exceptions import StartFailed, UnknownInstance
from lifecycle.models import Lease
from lifecycle.transitions.lifecycle import Lifecycle
from lifecycle.workers.heartbeats import ThisWorker
from tests.lifecycle.conftest import NAME, row
from tests.lifecycle.fake_engine import Program
from tests.servers import DEADLINE_SECONDS, wait_for


@pytest.fixture
def wakes(transactional_db, engine, events, box):
    """Provide wakes with clocks that run, because the threads wait for each other."""
    worker = ThisWorker("test")
    worker.send_heartbeat()
    wakes = Wakes(Lifecycle(engine, worker, sink=events, probe=lambda seen, labels: None))
    yield wakes
    wait_for(lambda: not wakes._wake_futures)
    wakes.shut_down()


@pytest.fixture
def held(engine):
    """Holds the next start in the engine until it is set."""
    gate = threading.Event()
    engine.before["start"] = [lambda: gate.wait(DEADLINE_SECONDS)]
    yield gate
    gate.set()


def run(coroutine):
    async def bounded():
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await coroutine

    return asyncio.run(bounded())


async def until(condition):
    while not condition():  # noqa: ASYNC110  # it is other threads that bring it about
        await asyncio.sleep(0.01)


async def use(wakes, name=NAME):
    """Do what a dispatch does, without the work. Return whether the instance was woken for it."""
    was_woken = False
    while True:
        _, woken = await wakes.find_ready(name)
        was_woken = was_woken or woken
        leased = await wakes.take_lease(name)
        if leased:
            wakes.give_back(leased)
            return was_woken
        await wakes.wake(name)
        was_woken = True


def test_it_says_whether_it_was_woken(wakes):
    assert run(use(wakes)) is True
    assert run(use(wakes)) is False


def test_after_an_event_of_the_engine_it_is_looked_at_before_the_next_connection(wakes, engine, events):
    run(use(wakes))
    engine.boxes[NAME].end(1)
    wakes._inspections._on_change(NAME)
    assert run(wakes.find_ready(NAME))[1] is True
    assert events.types == ["lazy_started", "lazy_started"]


@pytest.mark.parametrize(("has_row", "reads"), [(True, []), (False, [NAME])])
def test_a_wake_uses_the_row_that_was_just_read(wakes, has_row, reads):
    waking, found = wakes._lifecycle.waking, []
    find = waking.find_or_register
    if has_row:
        find(NAME)
    object.__setattr__(waking, "find_or_register", lambda name: found.append(name) or find(name))
    assert run(use(wakes)) is True
    assert found == reads


def test_inspections_of_agents_that_are_gone_are_not_kept_for_ever(wakes, monkeypatch):
    monkeypatch.setattr("lifecycle.dispatch.wakes.MAX_REMEMBERED", 2)
    for number in range(5):
        wakes._remember(f"gone-{number}", None)
        assert len(wakes._latest_seen) <= 2
    assert run(use(wakes)) is True
    assert run(use(wakes)) is False


def test_of_fifty_dispatches_one_starts_it(wakes, engine, events):
    async def all_at_once():
        return await asyncio.gather(*(use(wakes) for _ in range(50)))

    assert any(run(all_at_once()))  # one that looks late finds it ready
    assert engine.count("start") == 1
    assert events.types == ["lazy_started"]


def test_every_waiting_dispatch_gets_the_failure(wakes, engine, events, held):
    engine.boxes[NAME].program = Program.MISSING

    async def all_at_once():
        waiting = [asyncio.create_task(use(wakes)) for _ in range(20)]
        await until(lambda: engine.count("start"))
        await asyncio.sleep(0)
        held.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    errors = run(all_at_once())
    assert {type(error) for error in errors} == {StartFailed}
    assert "lazy_started" not in events.types


def test_the_waiting_cost_no_thread_each(wakes, engine, held):
    async def all_at_once():
        before = threading.active_count()
        waiting = [asyncio.create_task(use(wakes)) for _ in range(50)]
        await until(lambda: engine.count("start"))
        threads = threading.active_count() - before
        held.set()
        await asyncio.gather(*waiting)
        return threads

    assert run(all_at_once()) <= 17


def test_a_caller_that_is_cancelled_cancels_no_wake(wakes, engine, events, held):
    async def hang_up():
        caller = asyncio.create_task(use(wakes))
        await until(lambda: engine.count("start"))
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()

    run(hang_up())
    held.set()
    wait_for(lambda: row().state == "ready")  # the commit; the sink gets the event before it
    assert events.types == ["lazy_started"]


def test_a_caller_that_is_cancelled_leaves_the_others_waiting(wakes, engine, held):
    async def hang_up():
        callers = [asyncio.create_task(use(wakes)) for _ in range(2)]
        await until(lambda: engine.count("start"))
        callers[0].cancel()
        await asyncio.wait([callers[0]])
        held.set()
        return await callers[1]

    assert run(hang_up()) is True


def test_a_caller_that_is_cancelled_while_it_takes_its_lease_leaves_none(wakes, engine):
    """Cancelled when the instance is looked at in a thread: the lease is not inserted any more."""
    run(use(wakes))
    wait_for(lambda: not Lease.objects.exists())
    version = row().version
    gate, looking = threading.Event(), threading.Event()
    engine.before["inspect"] = [lambda: (looking.set(), gate.wait(DEADLINE_SECONDS))]

    async def hang_up():
        caller = asyncio.create_task(wakes.take_lease(NAME))
        await until(looking.is_set)
        caller.cancel()
        await asyncio.wait([caller])

    run(hang_up())
    gate.set()
    wakes.shut_down()  # waits for the thread
    assert (row().version, Lease.objects.exists()) == (version, False)


def test_callers_of_one_instance_whose_inspection_hangs_do_not_hold_another_up(wakes, engine):
    engine.add("healthy", idle_timeout="1m", port="8081")
    run(use(wakes))
    run(use(wakes, "healthy"))
    gate = threading.Event()
    inspect = engine.inspect
    engine.inspect = lambda name: (name == NAME and gate.wait(DEADLINE_SECONDS), inspect(name))[1]

    async def both():
        hanging = [asyncio.create_task(use(wakes)) for _ in range(100)]
        await asyncio.sleep(0.1)
        woken = await use(wakes, "healthy")
        assert not any(caller.done() for caller in hanging)
        gate.set()
        await asyncio.gather(*hanging)
        return woken

    assert run(both()) is False


def test_callers_that_hang_up_while_an_inspection_hangs_do_not_hold_another_instance_up(wakes, engine):
    """Their threads hang on, so the callers after them get none."""
    engine.add("healthy", idle_timeout="1m", port="8081")
    run(use(wakes))
    run(use(wakes, "healthy"))
    gate = threading.Event()
    inspect = engine.inspect
    engine.inspect = lambda name: (name == NAME and gate.wait(DEADLINE_SECONDS), inspect(name))[1]

    async def hang_up_again_and_again():
        for _ in range(SHORT_WORK_THREADS // THREADS_PER_INSTANCE):
            callers = [asyncio.create_task(use(wakes)) for _ in range(THREADS_PER_INSTANCE)]
            await asyncio.sleep(0.05)
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
        try:
            return await asyncio.wait_for(use(wakes, "healthy"), DEADLINE_SECONDS / 2)
        finally:
            gate.set()

    assert run(hang_up_again_and_again()) is False


def test_an_error_is_raised_as_it_is(wakes, engine):
    engine.boxes.clear()
    with pytest.raises(UnknownInstance):
        run(use(wakes))


def test_what_an_unforeseen_error_left_claimed_is_settled_without_another_dispatch(wakes, engine, box, events):
    """Its own process settles it, because that is alive. It need not have a supervisor."""

    def goes_wrong():
        box.begin()
        raise ZeroDivisionError

    engine.before["start"] = [goes_wrong]
    with pytest.raises(ZeroDivisionError):
        run(use(wakes))
    # The sink gets the event inside the transaction, so the row is waited for: that is the commit.
    wait_for(lambda: (row().state, row().owner) == ("ready", None))
    assert events.types == ["lazy_started"]


def test_a_dispatch_after_a_failure_makes_a_new_run(wakes, engine):
    engine.boxes[NAME].program = Program.MISSING
    for _ in range(2):
        with pytest.raises(StartFailed):
            run(use(wakes))
    assert engine.count("start") == 2


@pytest.mark.parametrize("sleep", ["stop", "pause"])
def test_the_engine_is_not_asked_again_between_the_wake_and_the_lease(wakes, engine, box, sleep):
    box.labels["dormouse.sleep"] = sleep
    if sleep == "pause":
        box.begin()
        box.between = Phase.PAUSED
    seen, was_woken = run(wakes.find_ready(NAME))
    assert (was_woken, seen.running, seen.incarnation) == (True, True, box.incarnation)
    assert engine.count("inspect") == 3  # for the new row, before the claim, and at the probe
    assert run(wakes.take_lease(NAME))
    assert engine.count("inspect") == 4


def test_one_that_ends_after_the_wake_is_woken_again(wakes, engine, box):
    run(wakes.find_ready(NAME))
    box.end(3)
    assert run(wakes.take_lease(NAME)) is None
    run(wakes.wake(NAME))
    assert run(wakes.find_ready(NAME))[0].incarnation == box.incarnation
    assert box.run == 2
