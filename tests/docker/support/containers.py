"""Real containers for the tests: one image, made without a registry, and containers that publish to 127.0.0.1 alone."""

import contextlib
import io
import tarfile
import uuid
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import NotFound

from lifecycle.engines.base import OWNER, REFUSED
from lifecycle.engines.labels import ENABLE, PREFIX

BUSYBOX = Path("/bin/busybox")
IMAGE = "dormouse-test-agent"
PORT = 8080
#: The agent's port is open BOOT seconds after its container runs. At the signal USR2 it takes all memory that it may.
AGENT = """#!/bin/sh
trap 'touch /stopping; sleep "${STOP:-0}"; exit 143' TERM
trap 'exec busybox tail /dev/zero' USR2
echo "booting"
sleep "${BOOT:-0}" & wait $!
echo "listening"
httpd -f -p 8080 -h /www & wait $!
"""
#: Answers work with two lines, of which the first is on its way before the file /go exists; any other path notes when
#: it was asked first, in seconds since the machine's boot.
ANSWER = """#!/bin/sh
[ -e /first ] || cat /proc/uptime > /first
printf 'Content-Type: text/plain\\r\\n\\r\\n'
[ "$REQUEST_METHOD" = POST ] || exit 0
printf 'working on: '
cat
echo
sleep "${TAKES:-0}"
[ "$HOLD" ] && until [ -e /go ]; do sleep 0.05; done
echo "done"
"""
#: Answers at once.
ANSWER_AT_ONCE = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\ndone\\n'
"""


def _add(archive: tarfile.TarFile, name: str, content: bytes = b"", **facts: Any) -> None:
    found = tarfile.TarInfo(name)
    found.size = len(content)
    for fact, value in {"mode": 0o755, **facts}.items():
        setattr(found, fact, value)
    archive.addfile(found, io.BytesIO(content))


def image() -> bytes:
    """A root file system of Debian's static busybox and the agent, as `docker import` takes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in ("bin", "tmp", "www", "www/cgi-bin"):
            _add(archive, folder, type=tarfile.DIRTYPE, mode=0o1777)
        _add(archive, "bin/busybox", BUSYBOX.read_bytes())
        for command in ("sh", "cat", "httpd", "sleep", "echo", "printf", "touch"):
            _add(archive, f"bin/{command}", type=tarfile.SYMTYPE, linkname="busybox")
        _add(archive, "agent", AGENT.encode())
        _add(archive, "www/index.html", b"hello\n", mode=0o644)
        _add(archive, "www/cgi-bin/work", ANSWER.encode())
        _add(archive, "www/cgi-bin/at-once", ANSWER_AT_ONCE.encode())
    return packed.getvalue()


class Containers:
    """Makes containers of the test image under unique names, and removes them all at the end."""

    def __init__(self, api: APIClient) -> None:
        self.api = api
        self._names: list[str] = []

    def create(
        self,
        *,
        command: list[str] | None = None,
        labelled: bool = True,
        environment: dict[str, str] | None = None,
        host_port: int | None = None,
        host_config: dict[str, Any] | None = None,
        healthcheck: dict[str, Any] | None = None,
        exposed: bool = True,
        name: str = "",
        **keys: str,
    ) -> str:
        """A container that does not run yet; `keys` are labels without their prefix. Returns its name."""
        name = name or f"agent-{uuid.uuid4().hex[:8]}"
        published = {PORT: ("127.0.0.1", host_port) if host_port else ("127.0.0.1",)} if exposed else None
        labels = {PREFIX + key.replace("_", "-"): value for key, value in keys.items()}
        self.api.create_container(
            IMAGE,
            command or ["/agent"],
            name=name,
            ports=[PORT] if exposed else None,
            labels=labels | ({ENABLE: "true"} if labelled else {}),
            environment=environment,
            healthcheck=healthcheck,
            host_config=self.api.create_host_config(**({"port_bindings": published} | (host_config or {}))),
        )
        self._names.append(name)
        return name

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.inspect_container(name)["State"]
        return found

    def is_running(self, name: str) -> bool:
        return bool(self.state(name)["Running"])

    def read(self, name: str, path: str) -> str:
        """Return the content of the file `path` in the container."""
        chunks, _ = self.api.get_archive(name, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            file = archive.extractfile(archive.next())  # type: ignore[arg-type]
            assert file is not None
            return file.read().decode()

    def touch(self, name: str, path: str) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            _add(archive, path.removeprefix("/"))
        self.api.put_archive(name, "/", packed.getvalue())

    def remove_too(self, name: str) -> None:
        """Remove at the end a container that got this name in another way."""
        self._names.append(name)

    def remove_all(self) -> None:
        for name in self._names:
            with contextlib.suppress(NotFound):
                self.api.remove_container(name, force=True)


def remove_marks(api: APIClient) -> None:
    """Remove the marks of all installations, as if none had ever used this engine."""
    for kind in (OWNER, REFUSED):
        for volume in api.volumes(filters={"name": f"dormouse-{kind}"})["Volumes"] or []:
            api.remove_volume(volume["Name"])
