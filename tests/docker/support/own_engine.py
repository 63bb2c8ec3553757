"""A Docker Engine that tests may stop, freeze and kill."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from lifecycle.workers import processes
from tests.conftest import need
from tests.docker.support.containers import IMAGE, Containers, image
from tests.servers import PROJECT, wait_for


class OwnEngine:
    """A Docker Engine of one module's tests alone, which may be stopped, frozen and killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = self.start()
        self.api = APIClient(base_url=self.host, version="auto", timeout=120)
        self.api.import_image_from_data(image(), repository=IMAGE, changes=["CMD /agent"])
        self.containers = Containers(self.api)

    def start(self, *options: str) -> str:
        return self._call("start", *options).stdout.strip()

    def stop(self) -> None:
        self._call("stop")

    def is_up(self) -> bool:
        """Return whether it listens."""
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(self.host.removeprefix("unix://")) == 0

    def send(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def stop_alone(self) -> None:
        """Stop the engine, which leaves its containers running if it was started with `--live-restore`."""
        pid = self._pid
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: processes.start_ticks(pid) is None)

    def kill(self) -> None:
        pid = self._pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: processes.start_ticks(pid) is None)
        for file in ("docker.pid", "exec/containerd/containerd.pid"):  # whose processes may be zombies here
            (self.folder / file).unlink()

    def mend(self) -> None:
        """Whatever was done to it."""
        if (self.folder / "docker.pid").exists():
            self.send(signal.SIGCONT)
        else:
            self.start()

    @property
    def _pid(self) -> int:
        return int((self.folder / "docker.pid").read_text())

    def _call(self, action: str, *options: str) -> "subprocess.CompletedProcess[str]":
        command = [str(PROJECT / ".ci/dockerd"), action, str(self.folder), *options]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)


@pytest.fixture(scope="module")
def own_engine() -> Iterator[OwnEngine]:
    need("docker", shutil.which("dockerd") and os.getuid() == 0, "apt-get install docker.io, and run as root")
    folder = Path(tempfile.mkdtemp(prefix="dm"))  # a socket's path is short
    engine = OwnEngine(folder)
    yield engine
    engine.api.close()
    engine.stop()
    shutil.rmtree(folder)
