"""A Dormouse that is killed before or after a call to the engine. Usage: `... NAME pause|resume before|after`."""

import os
import signal
import sys
from collections.abc import Callable

import django


def main(name: str, call: str, when: str) -> None:
    django.setup()
    from lifecycle.engines.base import Outcome
    from lifecycle.engines.docker.engine import DockerEngine
    from lifecycle.models import Instance
    from lifecycle.transitions.lifecycle import Lifecycle
    from lifecycle.workers.heartbeats import ThisWorker

    class Engine(DockerEngine):
        def pause(self, name: str) -> Outcome:
            return self._die(lambda: super(Engine, self).pause(name))

        def resume(self, name: str) -> Outcome:
            return self._die(lambda: super(Engine, self).resume(name))

        def _die(self, do: Callable[[], Outcome]) -> Outcome:
            if when == "after":
                do()
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("this process has ended")

    worker = ThisWorker("test")
    worker.start()
    lifecycle = Lifecycle(Engine(), worker)
    if call == "resume":
        lifecycle.waking.wake(name)
    else:
        lifecycle.stopping.stop_idle(Instance.objects.get(pk=name))


if __name__ == "__main__":
    main(*sys.argv[1:])
