"""The contract that every engine keeps."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from lifecycle.engines.base import HeardEnd, Outcome, Phase
from lifecycle.exceptions import Cause, EngineRefused, LabelError, Missing, StartRejected
from tests.engines.rigs import Rig
from tests.lifecycle.fake_engine import Program
from tests.servers import wait_for


def ended(rig: Rig, name: str) -> bool:
    return wait_for(lambda: not rig.engine.inspect(name).running, what=f"the end of {name}")


def test_instances_are_those_that_opted_in(rig):
    name, stranger = rig.add(), rig.add_stranger()
    listed = {one.name: one for one in rig.engine.instances()}
    assert name in listed
    assert stranger not in listed


def test_a_list_shows_which_instances_run_and_their_labels(rig):
    name = rig.add(idle_timeout="7m")
    rig.engine.start(name)
    listed = {one.name: one for one in rig.engine.instances()}[name]
    assert listed.running
    assert listed.labels["dormouse.idle-timeout"] == "7m"


def test_an_unknown_instance_is_missing(rig):
    with pytest.raises(Missing):
        rig.engine.inspect("nobody-knows-it")


def test_an_instance_that_did_not_opt_in_is_missing(rig):
    with pytest.raises(Missing):
        rig.engine.inspect(rig.add_stranger())


def test_an_instance_that_never_ran_has_no_incarnation(rig):
    seen = rig.engine.inspect(rig.add())
    assert (seen.running, seen.incarnation, seen.address) == (False, "", None)


def test_a_started_instance_runs(rig):
    name = rig.add()
    rig.engine.start(name)
    assert rig.engine.inspect(name).running


def test_a_start_makes_a_new_incarnation(rig):
    name = rig.add()
    seen = []
    for _ in range(2):
        rig.engine.start(name)
        seen.append(rig.engine.inspect(name).incarnation)
        rig.engine.stop(name, 5)
    assert len(set(seen) - {""}) == 2


def test_a_stop_keeps_the_incarnation(rig):
    name = rig.add()
    rig.engine.start(name)
    before = rig.engine.inspect(name).incarnation
    rig.engine.stop(name, 5)
    assert rig.engine.inspect(name).incarnation == before


def test_a_start_of_a_running_instance_changes_nothing(rig):
    name = rig.add()
    rig.engine.start(name)
    before = rig.engine.inspect(name)
    rig.engine.start(name)
    assert rig.engine.inspect(name) == before


def test_a_stop_returns_after_the_instance_has_ended(rig):
    name = rig.add()
    rig.engine.start(name)
    rig.engine.stop(name, 5)
    assert not rig.engine.inspect(name).running


def test_a_call_says_whether_there_was_something_to_do(rig):
    name = rig.add()
    assert rig.engine.stop(name, 5) is (Outcome.ALREADY_SO if rig.knows_what_never_ran else Outcome.DONE)
    assert [rig.engine.start(name), rig.engine.start(name)] == [Outcome.DONE, Outcome.ALREADY_SO]
    assert [rig.engine.stop(name, 5), rig.engine.stop(name, 5)] == [Outcome.DONE, Outcome.ALREADY_SO]


def test_its_phase_is_created_then_running_then_exited(rig):
    name = rig.add()
    phases = [rig.engine.inspect(name).phase]
    rig.engine.start(name)
    phases.append(rig.engine.inspect(name).phase)
    rig.engine.stop(name, 5)
    phases.append(rig.engine.inspect(name).phase)
    assert phases == [Phase.CREATED, Phase.RUNNING, Phase.EXITED]


def test_a_list_and_an_inspection_agree_on_the_phase(rig):
    names = [rig.add(), rig.add(), rig.add(Program.FAILS)]
    rig.engine.start(names[1])
    rig.engine.start(names[2])
    assert ended(rig, names[2])
    listed = {one.name: one.phase for one in rig.engine.instances()}
    assert [listed[name] for name in names] == [rig.engine.inspect(name).phase for name in names]


def test_a_second_stop_does_no_harm(rig):
    name = rig.add()
    rig.engine.start(name)
    rig.engine.stop(name, 5)
    rig.engine.stop(name, 5)
    assert not rig.engine.inspect(name).running


def test_a_stop_of_an_instance_that_never_ran_does_no_harm(rig):
    rig.engine.stop(rig.add(), 5)


def need_pause(rig):
    if not rig.can_pause:
        pytest.skip("this engine freezes nothing")


@pytest.fixture
def paused(rig):
    """An instance that was paused as soon as it ran."""
    need_pause(rig)
    name = rig.add(sleep="pause")
    rig.engine.start(name)
    assert rig.engine.pause(name) is Outcome.DONE
    return name


def test_a_paused_instance_is_alive_and_takes_no_work(rig, paused):
    seen = rig.engine.inspect(paused)
    assert (seen.phase, seen.running, seen.is_alive, seen.is_resumable) == (Phase.PAUSED, False, True, True)
    assert (seen.addresses, seen.exit_code, seen.ran_seconds) == ((), None, None)
    assert {one.name: one.phase for one in rig.engine.instances()}[paused] is Phase.PAUSED


def test_one_that_is_paused_and_whose_label_does_not_say_so_is_not_resumable(rig):
    need_pause(rig)
    name = rig.add()
    rig.engine.start(name)
    rig.engine.pause(name)
    assert not rig.engine.inspect(name).is_resumable


def test_a_resume_keeps_the_incarnation(rig, paused):
    before = rig.engine.inspect(paused).incarnation
    assert rig.engine.resume(paused) is Outcome.DONE
    seen = rig.engine.inspect(paused)
    assert (seen.phase, seen.incarnation) == (Phase.RUNNING, before)


def test_a_pause_and_a_resume_say_whether_there_was_something_to_do(rig, paused):
    assert rig.engine.pause(paused) is Outcome.ALREADY_SO
    assert [rig.engine.resume(paused), rig.engine.resume(paused)] == [Outcome.DONE, Outcome.ALREADY_SO]


def test_one_that_does_not_run_cannot_be_paused(rig):
    name = rig.add()
    with pytest.raises(EngineRefused):
        rig.engine.pause(name)
    assert rig.engine.resume(name) is Outcome.ALREADY_SO
    assert rig.engine.inspect(name).phase is Phase.CREATED


def test_a_start_of_a_paused_instance_is_rejected(rig, paused):
    with pytest.raises(StartRejected, match="it is paused"):
        rig.engine.start(paused)
    assert rig.engine.inspect(paused).phase is Phase.PAUSED


def test_a_paused_instance_is_stopped(rig, paused):
    assert rig.engine.stop(paused, 5) is Outcome.DONE
    assert rig.engine.inspect(paused).phase is Phase.EXITED


def test_one_that_is_killed_while_it_is_paused_has_ended_at_the_latest_when_it_is_resumed(rig, paused):
    """Of control groups v1, the freezer holds even SIGKILL back."""
    rig.crash(paused)
    rig.engine.resume(paused)
    assert wait_for(lambda: rig.engine.inspect(paused).ended)
    assert rig.engine.inspect(paused).exit_code == 137
    assert rig.engine.start(paused) is Outcome.DONE


def test_an_exit_code_is_kept(rig):
    name = rig.add(Program.FAILS)
    rig.engine.start(name)
    assert ended(rig, name)
    assert rig.engine.inspect(name).exit_code == 3


def test_a_running_instance_has_no_exit_code(rig):
    name = rig.add()
    rig.engine.start(name)
    assert rig.engine.inspect(name).exit_code is None


@pytest.mark.parametrize(("program", "code"), [(Program.MISSING, 127), (Program.NOT_EXECUTABLE, 126)])
def test_a_program_that_cannot_run_is_rejected(rig, program, code):
    with pytest.raises(StartRejected) as raised:
        rig.engine.start(rig.add(program))
    assert (raised.value.cause, raised.value.exit_code) == (Cause.START_REJECTED, code)


def test_a_rejected_start_makes_no_incarnation(rig):
    name = rig.add(Program.MISSING)
    before = rig.engine.inspect(name).incarnation
    with pytest.raises(StartRejected):
        rig.engine.start(name)
    assert rig.engine.inspect(name).incarnation == before


@contextmanager
def watching(engine):
    """Read the engine's events inside the block, as a supervisor does."""
    changes = engine.watch_changes()
    if changes is not None:
        threading.Thread(target=lambda: list(changes), daemon=True).start()
    yield


def heard_end(rig, end):
    """Return what was heard of the end of a new instance, and the inspection after it."""
    with watching(rig.engine):
        name = rig.add()
        rig.engine.start(name)
        incarnation = rig.engine.inspect(name).incarnation
        end(name)
        assert ended(rig, name)
        if rig.hears_ends:
            wait_for(lambda: rig.engine.heard_end(incarnation))
        return rig.engine.heard_end(incarnation), rig.engine.inspect(name)


def test_an_end_that_nobody_asked_for_is_heard_without_a_signal(rig):
    heard, seen = heard_end(rig, rig.crash)
    assert (seen.exit_code, seen.is_alive) == (137, False)
    assert heard == (HeardEnd(frozenset(), heard.exit_code) if rig.hears_ends else None)


def test_how_long_a_run_lasted_is_known(rig):
    _, seen = heard_end(rig, rig.crash)
    assert seen.ran_seconds >= 0


def test_an_end_that_was_not_watched_is_not_heard(rig):
    assert rig.engine.heard_end("another@2026-11-26T13:00:00.5Z") is None


def test_output_has_only_the_latest_run(rig):
    name = rig.add(Program.FAILS)
    outputs = []
    for _ in range(2):
        mark = rig.engine.inspect(name).output_mark
        rig.engine.start(name)
        assert ended(rig, name)
        outputs.append(rig.engine.output(name, 20, mark))
    assert [text.count("this is run") for text in outputs] == [1, 1]
    assert outputs[0] != outputs[1]


def test_zero_lines_of_output_are_an_empty_text(rig):
    name = rig.add(Program.FAILS)
    rig.engine.start(name)
    assert ended(rig, name)
    assert rig.engine.output(name, 0) == ""


def test_an_instance_that_never_ran_has_no_output(rig):
    assert rig.engine.output(rig.add(), 20) == ""


def test_a_bad_label_is_part_of_the_inspection(rig):
    seen = rig.engine.inspect(rig.add(idle_timeout="soon"))
    assert isinstance(seen.labels, LabelError)
    assert (seen.labels.label, seen.labels.value) == (f"{rig.engine.key_prefix}idle-timeout", "soon")


def test_a_bad_label_stops_no_other_instance(rig):
    rig.add(idle_timeout="soon")
    name = rig.add()
    assert name in [one.name for one in rig.engine.instances()]
    rig.engine.start(name)
    assert rig.engine.inspect(name).running


def test_an_address_can_be_reached(rig, request):
    name = rig.add()
    rig.engine.start(name)
    address = rig.engine.inspect(name).address

    def is_reached() -> bool:
        try:
            return bool(httpx.get(f"http://{address[0]}:{address[1]}/", timeout=0.2))
        except httpx.ReadTimeout:  # the fake engine's agent listens, and says nothing
            return "fake" in request.node.name
        except httpx.TransportError:
            return False

    assert wait_for(is_reached, what=f"{address}")


def test_of_several_that_mark_an_engine_one_makes_the_mark(rig):
    if not rig.engine.keeps_mark:
        pytest.skip("it keeps no mark")
    rig.engine.remove_mark()
    assert rig.engine.find_mark() is None
    with ThreadPoolExecutor(8) as hands:
        marks = list(hands.map(lambda number: rig.engine.mark({"dormouse.installation": str(number)}), range(8)))
    (owner,) = {mark["dormouse.installation"] for mark in marks}
    assert rig.engine.find_mark()["dormouse.installation"] == owner
    for _ in range(2):
        rig.engine.remove_mark()
    assert rig.engine.find_mark() is None
