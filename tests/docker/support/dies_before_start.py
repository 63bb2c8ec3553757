"""A Dormouse that is killed between the claim of a run and the engine's start. Usage: `... dies_before_start NAME`."""

import os
import signal
import sys

import django


def main(name: str) -> None:
    django.setup()
    from lifecycle.engines.base import Outcome
    from lifecycle.engines.docker.engine import DockerEngine
    from lifecycle.transitions.lifecycle import Lifecycle
    from lifecycle.workers.heartbeats import ThisWorker

    class Engine(DockerEngine):
        def start(self, name: str) -> Outcome:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("this process has ended")

    worker = ThisWorker("test")
    worker.start()
    Lifecycle(Engine(), worker).waking.wake(name)


if __name__ == "__main__":
    main(sys.argv[1])
