"""Of two installations on one engine and scope, one alone touches the instances, and the other one says why."""

import logging
import threading
import uuid

import pytest
from django.core.management import CommandError, call_command

from lifecycle.engines.base import REFUSED, Phase
from lifecycle.exceptions import EngineRefused, EngineUnreachable, Neighbour
from lifecycle.models import EngineStatus, Installation
from lifecycle.orders import Order, Trigger
from lifecycle.state_machine import State
from lifecycle.supervision.supervisor import Supervisor
from lifecycle.workers import installation
from lifecycle.workers.neighbours import ABSENT_SECONDS, GONE_SECONDS, LOOK_SECONDS, REFUSED_SECONDS, Neighbours
from tests.lifecycle.conftest import NAME, make_row, row

pytestmark = pytest.mark.django_db
OTHER = {installation.INSTALLATION: str(uuid.UUID(int=7)), installation.HOST: "build-7", installation.PLACE: "/srv/x"}


@pytest.fixture
def neighbours(lifecycle):
    return lifecycle.neighbours


def raising(error):
    def fail():
        raise error

    return fail


def test_the_first_installation_makes_the_mark_and_works(lifecycle, engine, box):
    lifecycle.waking.wake(NAME)
    assert engine.marked[installation.INSTALLATION] == str(Installation.read_identity())
    assert row().state == State.READY


def test_a_second_installation_starts_nothing_and_says_why(lifecycle, engine, box):
    engine.marked = OTHER
    with pytest.raises(Neighbour) as refused:
        lifecycle.waking.wake(NAME)
    assert engine.count("start") == 0
    assert (refused.value.status, refused.value.code) == (503, "neighbour")
    assert "host build-7, database /srv/x" in refused.value.explain()
    assert "run here: manage.py take_over" in refused.value.explain()
    assert "build-7" not in str(refused.value), "a caller without the page learns no host"


def test_two_processes_of_one_database_are_one_installation(lifecycle, engine, clock, box):
    lifecycle.waking.wake(NAME)
    Neighbours(engine, clock).look_and_check()


@pytest.mark.parametrize("act", ["lease", "sleep", "stop"])
def test_a_second_installation_gives_no_lease_and_stops_nothing(lifecycle, engine, clock, box, act):
    box.begin()
    found = make_row(clock, State.READY, incarnation=box.incarnation, probed=True, last_used=clock.now())
    engine.marked = OTHER
    with pytest.raises(Neighbour):
        {
            "lease": lambda: lifecycle.leases.take(NAME),
            "sleep": lambda: lifecycle.control.sleep(NAME, Order(Trigger.SLEEP)),
            "stop": lambda: lifecycle.stopping.stop_idle(found),
        }[act]()
    assert (box.running, engine.count("stop"), row().state) == (True, 0, State.READY)


def test_a_sweep_of_a_second_installation_touches_nothing_and_tells_the_page(lifecycle, engine, clock, box):
    box.begin()
    engine.marked = OTHER
    Supervisor(lifecycle).sweep()
    assert {call for call, _ in engine.calls} == {"mark", "mark refused"}
    status = EngineStatus.objects.get()
    assert (status.error, status.answered) == ("", status.asked)
    assert "host build-7" in status.neighbour


def test_a_sweep_goes_on_when_the_neighbour_has_been_taken_over(lifecycle, engine, clock, box):
    supervisor = Supervisor(lifecycle)
    engine.marked = OTHER
    supervisor.sweep()
    assert "host build-7" in lifecycle.neighbours.take_over()
    supervisor.sweep()
    assert EngineStatus.objects.get().neighbour == ""
    assert row().state == State.ASLEEP


def test_the_first_installation_notices_that_it_was_taken_over_before_a_stop(lifecycle, engine, box):
    lifecycle.waking.wake(NAME)
    engine.marked = OTHER
    with pytest.raises(Neighbour):
        lifecycle.stopping.stop_idle(row())
    assert box.running
    with pytest.raises(Neighbour):
        lifecycle.leases.take(NAME)


def test_a_mark_that_is_gone_is_made_anew(lifecycle, engine, clock):
    lifecycle.neighbours.look_if_due()
    engine.marked = None
    lifecycle.neighbours.look_if_due()
    assert engine.marked is None, "not more often than needed"
    clock.sleep(LOOK_SECONDS)
    lifecycle.neighbours.look_if_due()
    assert engine.marked


def test_a_second_installation_leaves_the_first_one_time_to_make_its_mark_anew(neighbours, engine, clock):
    engine.marked = OTHER
    neighbours.look()
    engine.marked = None
    for _ in range(2):
        with pytest.raises(Neighbour):
            neighbours.look_and_check()
        assert engine.marked is None
        clock.sleep(ABSENT_SECONDS / 2)
    neighbours.look_and_check()
    assert engine.marked


def test_a_mark_that_came_back_begins_that_time_again(neighbours, engine, clock):
    engine.marked = OTHER
    for gone in (False, True, False, True):
        engine.marked = None if gone else OTHER
        with pytest.raises(Neighbour):
            neighbours.look_and_check()
        clock.sleep(ABSENT_SECONDS - 1)


def test_that_time_begins_anew_with_another_neighbour(neighbours, engine, clock):
    engine.marked = OTHER
    neighbours.look()
    engine.marked = None
    neighbours.look()
    clock.sleep(ABSENT_SECONDS)
    neighbours.look_and_check()
    for mark in (OTHER, None):
        engine.marked = mark
        with pytest.raises(Neighbour):
            neighbours.look_and_check()


def test_a_slow_look_does_not_replace_what_a_later_one_found(neighbours, engine):
    """A thread has asked and not yet noted the answer, when the instances are taken over and another thread looks."""
    neighbours.look()
    is_same = installation.is_same

    def take_over_meanwhile(mark, ours):
        patch.undo()
        engine.marked = OTHER
        neighbours.look()
        return is_same(mark, ours)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installation, "is_same", take_over_meanwhile)
        neighbours.look()
    with pytest.raises(Neighbour):
        neighbours.check()


@pytest.mark.parametrize("mark", [OTHER, None])
def test_an_engine_that_does_not_answer_changes_nothing(neighbours, engine, mark):
    engine.marked = mark
    neighbours.look()
    before = neighbours.found
    for call in ("mark", "find_mark"):
        engine.before[call].append(raising(EngineUnreachable("no answer")))
    neighbours.look()
    assert neighbours.found is before


def test_where_marks_are_forbidden_that_is_said_once_and_work_goes_on(lifecycle, engine, box, caplog):
    engine.before["mark"] += [raising(EngineRefused("mark was refused with 403, probably by a filter"))] * 9
    with caplog.at_level(logging.WARNING):
        lifecycle.waking.wake(NAME)
        Supervisor(lifecycle).sweep()
        lifecycle.neighbours.look()
    assert row().state == State.READY
    assert [record.message for record in caplog.records if "403" in record.message] == [
        "No mark can be kept at the engine, so another Dormouse is not noticed: "
        "mark was refused with 403, probably by a filter"
    ]


def test_an_engine_without_marks_is_not_asked_for_one(engine, clock):
    engine.keeps_mark = False
    Neighbours(engine, clock).look_and_check()
    assert engine.calls == []


def test_what_a_mark_says_is_one_short_line(neighbours, engine, caplog):
    engine.marked = OTHER | {installation.HOST: "x\n2026-01-01 CRITICAL forged \x1b[31m" + "y" * 5000}
    neighbours.look()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 1000


@pytest.mark.parametrize("mark", [{}, {installation.INSTALLATION: "no UUID"}])
def test_a_mark_that_says_nothing_is_a_neighbours(neighbours, engine, mark):
    engine.marked = mark
    with pytest.raises(Neighbour):
        neighbours.look_and_check()


def test_a_take_over_that_is_undone_again_and_again_fails(neighbours, engine):
    engine.marked = OTHER
    engine.after["remove_mark"] += [lambda: setattr(engine, "marked", OTHER)] * 99
    with pytest.raises(Neighbour):
        neighbours.take_over()


def test_a_take_over_that_was_killed_half_way_leaves_no_mark_and_can_be_made_again(neighbours, engine):
    engine.marked = OTHER
    engine.after["remove_mark"].append(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        neighbours.take_over()
    assert engine.marked is None
    assert neighbours.take_over() == ""
    neighbours.look_and_check()


@pytest.mark.parametrize(
    ("place", "is_neighbour"),
    [
        ({}, False),
        ({installation.PLACE: "/moved/db.sqlite3"}, False),
        ({installation.FILE: "1:1"}, False),
        ({installation.PLACE: "/copy/db.sqlite3", installation.FILE: "1:1"}, True),
        ({installation.PLACE: "/copy/db.sqlite3", installation.FILE: "1:1", installation.REALM: "elsewhere"}, False),
        ({installation.PLACE: "", installation.FILE: "", installation.REALM: ""}, False),
    ],
)
def test_a_copy_is_a_neighbour_if_it_is_certain_that_it_is_one(
    neighbours, engine, monkeypatch, tmp_path, place, is_neighbour
):
    database = tmp_path / "db.sqlite3"
    database.touch()
    monkeypatch.setattr(installation, "_find_place", lambda: installation._place_of_file(str(database)))
    engine.marked = installation.our_mark() | place
    neighbours.look()
    assert bool(neighbours.found) == is_neighbour
    assert not is_neighbour or "copy" in str(neighbours.found)


def test_nothing_is_known_of_the_place_of_a_database_without_a_file(tmp_path):
    assert installation._place_of_file(str(tmp_path / "none")) == installation.Place()
    assert not installation.Place().is_elsewhere(installation.Place())


def test_a_neighbour_is_looked_for_before_the_first_lease(lifecycle, engine, clock, box):
    """Also by a process that is no supervisor, and whose database says that the instance is ready."""
    box.begin()
    make_row(clock, State.READY, incarnation=box.incarnation, probed=True, last_used=clock.now())
    assert lifecycle.leases.take(NAME)
    assert engine.count("mark") == 1
    assert lifecycle.leases.take(NAME)
    assert (engine.count("mark"), box.phase) == (1, Phase.RUNNING)


def test_the_process_engine_is_said_to_need_no_mark(settings, capsys):
    settings.DORMOUSE_ENGINE = "process"
    call_command("take_over")
    assert "needs no mark" in capsys.readouterr().out


def test_the_command_says_from_which_installation_it_took_over(settings, monkeypatch, engine, capsys):
    settings.DORMOUSE_ENGINE, settings.DORMOUSE_SCOPE = "docker", "team-a"
    monkeypatch.setattr("lifecycle.management.commands.take_over.engine_from_settings", lambda: engine)
    engine.marked = OTHER
    call_command("take_over")
    assert "Taken over from: installation 00000000" in capsys.readouterr().out
    call_command("take_over")
    assert capsys.readouterr().out.startswith("Nothing was taken over. The agents of this engine and of the scope")


def test_the_command_says_that_the_engine_does_not_answer(settings, monkeypatch, engine):
    settings.DORMOUSE_ENGINE = "docker"
    monkeypatch.setattr("lifecycle.management.commands.take_over.engine_from_settings", lambda: engine)
    engine.before["mark"].append(raising(EngineUnreachable("no answer in time")))
    with pytest.raises(CommandError, match="no answer in time"):
        call_command("take_over")


@pytest.fixture
def refused(engine):
    engine.marks[REFUSED] = OTHER


def page_says():
    return EngineStatus.objects.get().refused_neighbour


def test_the_page_of_the_owner_says_who_was_refused_until_that_one_is_gone(lifecycle, engine, clock, refused, caplog):
    supervisor = Supervisor(lifecycle)
    for _ in range(REFUSED_SECONDS // LOOK_SECONDS + 2):
        supervisor.sweep()
        assert "host build-7" in page_says()
        clock.sleep(LOOK_SECONDS)
    assert REFUSED not in engine.marks, "only one that still runs makes it anew"
    for _ in range(GONE_SECONDS // LOOK_SECONDS + 1):
        supervisor.sweep()
        clock.sleep(LOOK_SECONDS)
    assert page_says() == ""
    assert sum("wants the agents" in record.message for record in caplog.records) == 1


def test_a_refused_one_that_goes_on_stays_on_the_page(lifecycle, engine, clock, refused):
    supervisor = Supervisor(lifecycle)
    for _ in range(3 * REFUSED_SECONDS // LOOK_SECONDS):
        supervisor.sweep()
        assert "host build-7" in page_says()
        clock.sleep(LOOK_SECONDS)
        engine.marks[REFUSED] = OTHER


def test_a_filter_that_forbids_that_mark_costs_only_the_hint(lifecycle, engine, box, refused):
    engine.before[f"find_mark {REFUSED}"].append(raising(EngineRefused("403")))
    Supervisor(lifecycle).sweep()
    assert (page_says(), row().state) == ("", State.ASLEEP)


def test_an_engine_that_hangs_is_waited_for_by_one_thread_alone(neighbours, engine, monkeypatch):
    monkeypatch.setattr(installation, "our_mark", lambda: OTHER)  # the database belongs to the test's own thread
    begun, go_on = threading.Event(), threading.Event()
    engine.before["mark"].append(lambda: begun.set() or go_on.wait(60))
    first = threading.Thread(target=neighbours.check)
    first.start()
    assert begun.wait(60)
    neighbours.check()  # returns though the engine has not answered
    assert engine.count("mark") == 1
    go_on.set()
    first.join()


def test_an_engine_that_did_not_answer_at_first_is_not_asked_by_every_caller(neighbours, engine):
    engine.before["mark"].append(raising(EngineUnreachable("no answer")))
    for _ in range(3):
        neighbours.check()
    assert engine.count("mark") == 1
