"""What the answers of managers mean. The messages were seen of Docker Engine 20.10."""

import pytest

from lifecycle.engines.docker.answers import Answer
from lifecycle.engines.swarm.managers import _together, error_of
from lifecycle.exceptions import EngineLeaderless, EngineUnreachable, Outcome
from tests.swarm.support import NO_LEADER

SILENT = "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
LOST_LEAD = "rpc error: code = Unknown desc = raft: failed to process the request: node lost leader status"
STOPPED = "rpc error: code = Unknown desc = raft: failed to process the request: node is stopped"
NO_MANAGER = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state."


@pytest.mark.parametrize(
    ("status", "message", "outcome", "words"),
    [
        (500, "rpc error: code = Unknown desc = update out of sequence", "refused_for_now", "changed by others"),
        (500, NO_LEADER, "no_answer", "the quorum is lost"),
        (503, NO_LEADER, "no_answer", "agents that run still answer"),
        (500, SILENT, "no_answer", "the swarm's leader does not answer"),
        (500, LOST_LEAD, "no_answer", "the swarm's leader has lost the lead"),
        (500, STOPPED, "no_answer", "the swarm's leader has lost the lead"),
        (503, NO_MANAGER, "no_answer", "it is no manager of a swarm"),
        (404, "service reviewer not found", "not_there", "the engine has no reviewer"),
        (400, "rpc error: code = InvalidArgument desc = name must be valid", "refused", "name must be valid"),
        (403, "", "refused", "probably by a filter in front of the engine"),
        (502, "", "no_answer", "a proxy answered 502"),
    ],
)
def test_an_answer_has_one_meaning(status, message, outcome, words):
    error = error_of("update", "reviewer", Answer(status, message))
    assert (error.outcome, words in str(error)) == (Outcome(outcome), True)


def trouble(message: str) -> EngineUnreachable:
    found = error_of("update", "reviewer", Answer(500, message))
    assert isinstance(found, EngineUnreachable)
    return found


def test_if_one_manager_says_that_there_is_no_leader_that_is_why():
    gone = EngineUnreachable("it cannot be reached", was_asked=False)
    found = _together([gone, trouble(NO_LEADER)])
    assert (type(found), found.error, found.was_asked) == (EngineLeaderless, trouble(NO_LEADER).error, False)


@pytest.mark.parametrize("message", [SILENT, LOST_LEAD])
def test_what_a_leader_was_asked_that_died_may_have_been_done(message):
    assert _together([trouble(NO_LEADER), trouble(message)]).was_asked
