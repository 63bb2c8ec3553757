"""What the answers of managers mean. The messages were seen of Docker Engine 20.10."""

import pytest

from lifecycle.engines.docker.answers import Answer
from lifecycle.engines.swarm.managers import error_of
from lifecycle.exceptions import Outcome

NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online."
    " Make sure more than half of the managers are online."
)
NO_MANAGER = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state."


@pytest.mark.parametrize(
    ("status", "message", "outcome", "words"),
    [
        (500, "rpc error: code = Unknown desc = update out of sequence", "refused_for_now", "changed by others"),
        (500, NO_LEADER, "no_answer", "the quorum is lost"),
        (503, NO_LEADER, "no_answer", "agents that run still answer"),
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
