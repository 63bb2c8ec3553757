"""What instances need of each other: waking what one needs, and finding circles.

Each needed instance is woken by a run of its own, which wakes what that one needs. Those that do not need each other
start at the same time.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from django.db import connections

from lifecycle.exceptions import Cause, Disabled, EngineError, LabelError, LifecycleError, StartFailed, UnknownInstance
from lifecycle.orders import Order, Trigger

#: Wakes an instance, as `Waking.wake`.
Wake = Callable[[str, Order], object]


def wake_needed(name: str, needs: Sequence[str], order: Order, wake: Wake) -> None:
    """Return when all that `name` needs were ready. Raises StartFailed, which names the first that is not."""
    order = replace(order, trigger=Trigger.NEEDED)
    if len(needs) == 1:
        failures = [_try_to_wake(needs[0], order, wake)]
    else:
        with ThreadPoolExecutor(max(1, len(needs)), thread_name_prefix=f"needs of {name}") as pool:
            failures = list(pool.map(lambda needed: _wake_in_thread(needed, order, wake), needs))
    failed = next((failure for failure in failures if failure), None)
    if failed:
        raise StartFailed(name, Cause.DEPENDENCY, f"needs {failed[0]}") from failed[1]


def find_circle(name: str, needs_of: Callable[[str], Sequence[str]]) -> list[str] | None:
    """Return the names on a way of needs from `name` back to itself, beginning with it. None: there is no such way."""
    ways, visited = [[name]], {name}
    for way in ways:
        for needed in needs_of(way[-1]):
            if needed == name:
                return way
            if needed not in visited:
                visited.add(needed)
                ways.append([*way, needed])
    return None


def circle_error(circle: Sequence[str], key_prefix: str) -> LabelError:
    """Return the error of the first instance in a circle."""
    told = ", which needs ".join([*circle, circle[0]]).replace(", which", "", 1)
    reason = f"is a circle: {told}"
    return LabelError(circle[0], f"{key_prefix}needs", circle[1] if len(circle) > 1 else circle[0], reason)


def _wake_in_thread(name: str, order: Order, wake: Wake) -> tuple[str, LifecycleError] | None:
    try:
        return _try_to_wake(name, order, wake)
    finally:
        connections.close_all()


def _try_to_wake(name: str, order: Order, wake: Wake) -> tuple[str, LifecycleError] | None:
    """Wake the instance. If it does not get ready, return why, as a part of a sentence, and the error."""
    try:
        wake(name, order)
    except UnknownInstance as error:
        return f"{name}, which the engine does not have: create it, or correct the label", error
    except (Disabled, EngineError, LabelError, StartFailed) as error:
        return f"{name}: {error}", error
    return None
