"""The tasks of one service take work in turn, as soon as they are ready.

A start waits for one of them. Whether the others are ready is found out by probes in the background, so that no work
waits for that: until then it goes to the one that is known to be ready.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from lifecycle.clock import Clock
from lifecycle.engines.base import Address, Inspection
from lifecycle.transitions.starts.probes import Probe

#: How long after a failed probe a task is asked again, if work comes.
ASK_AGAIN_SECONDS = 1


@dataclass
class _Task:
    """Holds what is known of a task."""

    #: The address that answered. None: none has answered.
    ready_at: Address | None = None
    #: When it was asked last, in monotonic seconds.
    asked: float = -inf


class Turns:
    """Chooses the task that gets the next work. Any thread may call it. `submit` runs short work in another thread."""

    def __init__(self, probe: Probe, clock: Clock, submit: Callable[[Callable[[], None]], object]) -> None:
        self._probe = probe
        self._clock = clock
        self._submit = submit
        self._lock = threading.Lock()
        #: By instance, and by the addresses of a task.
        self._tasks: dict[str, dict[tuple[Address, ...], _Task]] = {}
        self._turns: Counter[str] = Counter()

    def take(self, seen: Inspection) -> Inspection:
        """Return the inspection with the address of the task whose turn it is. This does not wait.

        `seen` has the one address that is known to be ready.
        """
        if len(seen.tasks) < 2:
            return seen
        with self._lock:
            ready = self._keep(seen)
            self._turns[seen.name] += 1
            chosen = ready[self._turns[seen.name] % len(ready)]
        return replace(seen, addresses=(chosen,))

    def forget(self, name: str) -> None:
        """Forget which tasks are ready, because one of them could not be connected to."""
        with self._lock:
            self._tasks.pop(name, None)

    def _keep(self, seen: Inspection) -> list[Address]:
        """Return the addresses of the tasks that are ready. Forget those of tasks that are gone, and ask new ones."""
        before = self._tasks.get(seen.name, {})
        kept = self._tasks[seen.name] = {addresses: before.get(addresses) or _Task() for addresses in seen.tasks}
        for addresses, task in kept.items():
            if seen.address in addresses:
                task.ready_at = seen.address
            elif addresses and task.ready_at is None:
                self._ask_in_thread(seen, addresses, task)
        return [task.ready_at for task in kept.values() if task.ready_at]

    def _ask_in_thread(self, seen: Inspection, addresses: tuple[Address, ...], task: "_Task") -> None:
        now = self._clock.monotonic()
        if now - task.asked >= ASK_AGAIN_SECONDS:
            task.asked = now
            self._submit(lambda: self._ask(seen, addresses, task))

    def _ask(self, seen: Inspection, addresses: tuple[Address, ...], task: "_Task") -> None:
        labels = seen.settings()
        if labels.ready not in ("http", "tcp"):  # the swarm has said that it runs, and where is to be found out
            labels = replace(labels, ready="tcp")
        for address in addresses:
            if self._probe(replace(seen, addresses=(address,)), labels) is None:
                with self._lock:
                    task.ready_at = address
                return
