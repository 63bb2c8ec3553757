"""The tasks of one service take work in turn, as soon as they are ready.

A start waits for one of them. Whether the others are ready is found out by probes in the background, so that no work
waits for that: until then it goes to the one that is known to be ready.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from lifecycle.clock import Clock
from lifecycle.engines.base import Address, Inspection
from lifecycle.transitions.probes import Probe

#: How long after a failed probe a task is asked again, if work comes.
ASK_AGAIN_SECONDS = 1


class Turns:
    """Chooses the task that gets the next work. Any thread may call it. `submit` runs short work in another thread."""

    def __init__(self, probe: Probe, clock: Clock, submit: Callable[[Callable[[], None]], object]) -> None:
        self._probe = probe
        self._clock = clock
        self._submit = submit
        self._lock = threading.Lock()
        #: By instance: the address that answered, by the addresses of a task. None: none has answered.
        self._ready: dict[str, dict[tuple[Address, ...], Address | None]] = {}
        #: The same: when it was asked last, in monotonic seconds.
        self._asked: dict[str, dict[tuple[Address, ...], float]] = {}
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
            self._ready.pop(name, None)
            self._asked.pop(name, None)

    def _keep(self, seen: Inspection) -> list[Address]:
        """Return the addresses of the tasks that are ready. Forget those of tasks that are gone, and ask new ones."""
        before, asked = self._ready.get(seen.name, {}), self._asked.get(seen.name, {})
        ready = {task: seen.address if seen.address in task else before.get(task) for task in seen.tasks}
        self._ready[seen.name] = ready
        self._asked[seen.name] = {task: when for task, when in asked.items() if task in ready}
        for task, address in ready.items():
            if address is None and task:
                self._ask_in_thread(seen, task)
        return [address for address in ready.values() if address]

    def _ask_in_thread(self, seen: Inspection, task: tuple[Address, ...]) -> None:
        now = self._clock.monotonic()
        asked = self._asked[seen.name]
        if now - asked.get(task, now - ASK_AGAIN_SECONDS) >= ASK_AGAIN_SECONDS:
            asked[task] = now
            self._submit(lambda: self._ask(seen, task))

    def _ask(self, seen: Inspection, task: tuple[Address, ...]) -> None:
        labels = seen.settings()
        if labels.ready not in ("http", "tcp"):  # the swarm has said that it runs, and where is to be found out
            labels = replace(labels, ready="tcp")
        for address in task:
            if self._probe(replace(seen, addresses=(address,)), labels) is None:
                with self._lock:
                    if task in self._ready.get(seen.name, {}):
                        self._ready[seen.name][task] = address
                return
