"""Why a task does not run, as the swarm says, and what to do about it."""

import re

from lifecycle.engines.docker.answers import NO_SUCH_IMAGE, PORT_TAKEN, explain_exit, unwrapped
from lifecycle.engines.swarm.services import Service
from lifecycle.engines.swarm.tasks import NOT_STARTED, Task
from lifecycle.exceptions import Cause, StartRejected

NO_IMAGE = re.compile(r"pull access denied|manifest (for .*)?(unknown|not found)", re.IGNORECASE)
NO_NODE = "no suitable node"
PORT_IN_USE = "host-mode port already in use"
#: What a remedy is added to, if the swarm says so.
UNSCHEDULABLE_REMEDY = "correct its constraints, free a node, or add one"
IMAGE_REMEDY = "push it to a registry that every node can reach, or load it on every node"

REJECTED_REMEDY = "correct the service, or keep it off that node with a constraint"


def rejection_of(service: Service, tasks: list[Task], *, is_patient: bool) -> StartRejected | None:
    """Return why none of the new tasks will run, or None if one still may.

    `is_patient`: a node may still be found.
    """
    if service.replicas == 0:
        return StartRejected("it was scaled to 0 by others while it started")
    if tasks and all(task.has_ended for task in tasks):
        return _rejection(tasks[-1])
    if tasks and not is_patient and all(NO_NODE in task.error for task in tasks):
        return _no_node(tasks[-1])
    return None


def too_slow(tasks: list[Task], seconds: float) -> StartRejected:
    """Return that a start was given up because no task ran in time."""
    if not tasks:
        return StartRejected(f"the swarm made no task within {seconds:g} s: do its managers work?", Cause.NOT_READY)
    said = f" ({tasks[-1].error})" if tasks[-1].error else ""
    return StartRejected(f"its task was still {tasks[-1].state} after {seconds:g} s{said}", Cause.NOT_READY)


def _rejection(task: Task) -> StartRejected:
    """Return why a task that has never run was given up."""
    message = unwrapped(task.error.removeprefix(f"{NOT_STARTED}: ")) or f"its task is {task.state}"
    if NO_SUCH_IMAGE.search(message) or NO_IMAGE.search(message):
        return StartRejected(f"its image is missing on a node: {message}; {IMAGE_REMEDY}", Cause.IMAGE_MISSING)
    if PORT_TAKEN.search(message):
        remedy = "stop what holds it, or publish another"
        return StartRejected(f"a port that it publishes is taken on its node: {message}; {remedy}", Cause.PORT_CONFLICT)
    if task.state == "rejected":
        message = f"{message}; {REJECTED_REMEDY}"
    return explain_exit(StartRejected(message), task.exit_code or None)


def _no_node(task: Task) -> StartRejected:
    """Return why the swarm finds no node for a task."""
    if PORT_IN_USE in task.error:
        return StartRejected(f"{task.error}; publish another port, or add a node", Cause.PORT_CONFLICT)
    return StartRejected(f"{task.error}; {UNSCHEDULABLE_REMEDY}", Cause.UNSCHEDULABLE)
