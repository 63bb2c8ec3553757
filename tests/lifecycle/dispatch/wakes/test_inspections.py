"""What the engine said is remembered until its events tell of a change."""

from queue import SimpleQueue

import pytest

from lifecycle.dispatch.inspections import REMEMBER_SECONDS, Inspections
from lifecycle.exceptions import EngineLeaderless, EngineUnreachable, Missing
from tests.lifecycle.conftest import NAME
from tests.lifecycle.fake_engine import raising
from tests.servers import DEADLINE_SECONDS, wait_for


class Stream:
    """The engine's events: connections, each with what it tells."""

    def __init__(self) -> None:
        self.connections = SimpleQueue()

    def connect(self):
        """Let the engine accept the next connection. Return its queue of names; None ends it."""
        names = SimpleQueue()
        self.connections.put(names)
        return names

    def watch_changes(self):
        names = self.connections.get()
        if names is None:
            raise EngineUnreachable("it is away")
        return iter(names.get, None)


@pytest.fixture
def stream(engine, box):
    box.begin()
    stream = Stream()
    engine.watch_changes = stream.watch_changes
    return stream


@pytest.fixture
def inspections(engine, clock, stream):
    return Inspections(engine, clock)


@pytest.fixture
def names(inspections, stream):
    """Provide an open connection, through which the test tells names."""
    inspections.ask(NAME)
    names = stream.connect()
    wait_for(lambda: inspections._is_connected)
    yield names
    names.put(None)


def test_an_answer_is_remembered(inspections, engine, names):
    seen = inspections.ask(NAME)
    asked = engine.count("inspect")
    assert inspections.recall_or_ask(NAME) is seen
    assert engine.count("inspect") == asked


def test_nothing_is_remembered_before_the_events_can_be_heard(inspections, stream):
    inspections.ask(NAME)
    assert inspections.recall(NAME) is None


def test_an_event_makes_it_ask_again(inspections, names, box):
    inspections.ask(NAME)
    box.end(1)
    names.put(NAME)
    wait_for(lambda: inspections.recall(NAME) is None)
    assert not inspections.recall_or_ask(NAME).running


def test_an_event_is_passed_on(engine, clock, stream):
    heard = SimpleQueue()
    inspections = Inspections(engine, clock, heard.put)
    inspections.ask(NAME)
    names = stream.connect()
    names.put(NAME)
    assert heard.get(timeout=DEADLINE_SECONDS) == NAME
    names.put(None)


def test_an_event_about_another_instance_does_not(inspections, names):
    seen = inspections.ask(NAME)
    before = inspections._changes
    names.put("another")
    wait_for(lambda: inspections._changes > before)
    assert inspections.recall(NAME) is seen


def test_an_event_during_the_question_makes_the_answer_old(inspections, names, engine):
    before = inspections._changes

    def tell():
        names.put(NAME)
        wait_for(lambda: inspections._changes > before)

    engine.before["inspect"] = [tell]
    inspections.ask(NAME)
    assert inspections.recall(NAME) is None


def test_the_end_of_the_stream_makes_it_forget(inspections, names, stream):
    inspections.ask(NAME)
    names.put(None)
    wait_for(lambda: not inspections._is_connected)
    assert inspections.recall(NAME) is None
    inspections.ask(NAME)
    assert inspections.recall(NAME) is None


def test_the_stream_is_opened_again(inspections, names, stream):
    names.put(None)
    stream.connections.put(None)  # the engine refuses once
    wait_for(lambda: not inspections._is_connected)
    again = stream.connect()
    wait_for(lambda: inspections._is_connected)
    inspections.ask(NAME)
    assert inspections.recall(NAME)
    again.put(None)


def test_an_answer_is_not_remembered_for_long(inspections, names, clock):
    """The other side of the stream may be gone without a word."""
    inspections.ask(NAME)
    clock.go(REMEMBER_SECONDS)
    assert inspections.recall(NAME) is None


def test_an_engine_without_events_is_always_asked(engine, box, clock):
    box.begin()
    inspections = Inspections(engine, clock)
    for _ in range(2):
        inspections.ask(NAME)
        assert inspections.recall(NAME) is None


def lose_leader(engine, times):
    """Let the engine say to the next questions that it has no leader."""
    engine.before["inspect"] = [raising(EngineLeaderless("no leader")) for _ in range(times)]


def test_what_an_engine_said_is_true_while_it_has_no_leader(inspections, engine, stream, clock):
    seen = inspections.ask(NAME)
    clock.go(3600)
    lose_leader(engine, 2)
    assert inspections.ask(NAME) is seen
    asked = engine.count("inspect")
    assert inspections.ask(NAME) is seen
    assert engine.count("inspect") == asked, "each question may take seconds"
    clock.go(REMEMBER_SECONDS)
    assert inspections.ask(NAME) is seen
    assert engine.count("inspect") == asked + 1
    clock.go(REMEMBER_SECONDS)
    assert inspections.ask(NAME) is not seen


def test_an_engine_without_a_leader_that_has_said_nothing_before_is_unreachable(inspections, engine, stream):
    lose_leader(engine, 1)
    with pytest.raises(EngineLeaderless):
        inspections.ask(NAME)


def test_nothing_is_known_of_an_instance_that_was_gone_before_the_leader(inspections, engine, stream):
    inspections.ask(NAME)
    engine.before["inspect"] = [raising(Missing(NAME))]
    with pytest.raises(Missing):
        inspections.ask(NAME)
    lose_leader(engine, 1)
    with pytest.raises(EngineLeaderless):
        inspections.ask(NAME)


def test_an_engine_that_does_not_answer_at_all_is_unreachable(inspections, engine, stream):
    """What it has done meanwhile is not known."""
    inspections.ask(NAME)
    engine.before["inspect"] = [raising(EngineUnreachable("it is away"))]
    with pytest.raises(EngineUnreachable, match="it is away"):
        inspections.ask(NAME)
