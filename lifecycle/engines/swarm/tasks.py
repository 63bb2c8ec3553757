"""What the tasks of a service say: which run, which have ended, and which were lost with their node."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lifecycle.engines.base import Phase

#: The states of a task that does not change any more.
ENDED = {"complete", "failed", "shutdown", "rejected", "orphaned", "remove"}
#: What the swarm wants of a task that shall run.
WANTED = {"ready", "running"}
#: How the swarm begins what it says of a task whose container was made and could not run.
NOT_STARTED = "starting container failed"


@dataclass(frozen=True)
class Task:
    """One task, as a manager lists it."""

    data: Mapping[str, Any]
    #: Its node. Empty: it has none yet.
    node: Mapping[str, Any]
    #: Whether its service wants tasks. After a scale-down the swarm says so of each task only a moment later.
    is_service_awake: bool = True

    @property
    def id(self) -> str:
        """Its id, which no other task ever gets."""
        return str(self.data["ID"])

    @property
    def state(self) -> str:
        """Its state as its node said last."""
        return str(self.data["Status"]["State"])

    @property
    def error(self) -> str:
        """Why it does not run, as the swarm says. Empty: nothing is wrong."""
        return str(self.data["Status"].get("Err", ""))

    @property
    def has_ended(self) -> bool:
        """True if its node says that it does not run, and will not."""
        return self.state in ENDED

    @property
    def is_lost(self) -> bool:
        """True if its node is down, or is not in the swarm any more. It may run on there."""
        if self.has_ended or not self.data.get("NodeID"):
            return False
        return not self.node or self.node["Status"]["State"] == "down"

    @property
    def is_alive(self) -> bool:
        """True if it runs, is about to, or is about to end."""
        return not self.has_ended and not self.is_lost

    @property
    def is_wanted(self) -> bool:
        """True if the swarm wants it to run."""
        return self.is_service_awake and self.data["DesiredState"] in WANTED

    @property
    def is_live(self) -> bool:
        """True if it runs, or is about to, and the swarm wants it to."""
        return self.is_wanted and self.is_alive

    @property
    def is_running(self) -> bool:
        """True if work can be sent to it."""
        return self.is_live and self.state == "running"

    @property
    def is_ending(self) -> bool:
        """True if the swarm wants it to end, and it has not yet."""
        return not self.is_wanted and self.is_alive

    @property
    def has_run(self) -> bool:
        """True if its command was run."""
        is_past = self.state in ("complete", "failed", "shutdown", "running", "remove", "orphaned")
        status = self.data["Status"].get("ContainerStatus") or {}
        return is_past and bool(status.get("ContainerID")) and not self.error.startswith(NOT_STARTED)

    @property
    def is_taken_down(self) -> bool:
        """True if the swarm wants it to end, or wanted that, although its service wants tasks."""
        return self.is_service_awake and self.data["DesiredState"] == "shutdown"

    @property
    def taken_away(self) -> str:
        """Why it ends or has ended, if its node is the reason, to be read after "because"."""
        if self.is_lost:
            return "its node is down"
        is_drained = bool(self.node) and self.node["Spec"]["Availability"] == "drain"
        return "its node was drained" if self.is_taken_down and is_drained else ""

    @property
    def exit_code(self) -> int | None:
        """The code with which its command ended. None: it runs, it never ran, or it is lost."""
        if not self.has_ended:
            return None
        status = self.data["Status"].get("ContainerStatus") or {}
        return int(status["ExitCode"]) if status.get("ContainerID") and "ExitCode" in status else None

    @property
    def ran_seconds(self) -> float | None:
        """About how long it ran. None: that is not known."""
        if not self.has_run or not self.has_ended:
            return None
        began, ended = (_time(text) for text in (self.data["CreatedAt"], self.data["Status"]["Timestamp"]))
        return max(0, (ended - began).total_seconds())


def read_tasks(tasks: list[Mapping[str, Any]], nodes: Mapping[str, Mapping[str, Any]]) -> list[Task]:
    """Return the tasks of a list, the oldest first. `nodes` are those of the swarm, by id."""
    read = [Task(one, nodes.get(one.get("NodeID", ""), {})) for one in tasks]
    return sorted(read, key=lambda task: (task.data["CreatedAt"], task.id))


def phase_of(service: Mapping[str, Any], tasks: list[Task], has_run: bool) -> Phase:
    """Return the phase of a service. `has_run`: it was seen to run before."""
    if any(task.is_running for task in tasks):
        return Phase.RUNNING
    if any(task.is_live for task in tasks):
        return Phase.STARTING
    before = ((service.get("PreviousSpec") or {}).get("Mode") or {}).get("Replicated") or {}
    return Phase.EXITED if tasks or has_run or before.get("Replicas") else Phase.CREATED


def shown_task(tasks: list[Task]) -> Task | None:
    """Return the task whose run is the service's: the oldest that runs, else that is about to, else the latest."""
    alive = [task for task in tasks if task.is_running] or [task for task in tasks if task.is_live]
    if alive:
        return alive[0]
    return next((task for task in reversed(tasks) if task.has_run or task.is_lost), None)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00")
