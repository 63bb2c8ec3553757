"""The run directory of the process engine: other users, full disks, and links."""

import os
import subprocess
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from unittest import mock

import pytest

from lifecycle.engines.base import Outcome
from lifecycle.engines.process.engine import ProcessEngine
from lifecycle.exceptions import EngineRefused, EngineUnreachable, StartRejected
from tests.engines.rigs import shell
from tests.servers import wait_for

NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
SLEEPS = '["sleep", "3600"]'


@pytest.fixture
def rig(process_rig):
    return process_rig


@pytest.fixture
def engine(process_rig):
    return process_rig.engine


@pytest.mark.parametrize("call", ["instances", "inspect", "start"])
def test_a_run_directory_that_cannot_be_used_is_an_unreachable_engine(rig, engine, call, tmp_path):
    name = rig.add_command(SLEEPS)
    blocked = ProcessEngine(rig.agents_file, tmp_path / "a file" / "run")
    (tmp_path / "a file").touch()
    with pytest.raises(EngineUnreachable, match=r"the run directory .* cannot be used \(.*: Not a directory\)"):
        blocked.instances() if call == "instances" else getattr(blocked, call)(name)


@pytest.fixture
def open_folder():
    """A folder that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def as_another_user():
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def engine_in(folder, command=SLEEPS):
    (folder / "agents.toml").write_text(f"[agent]\ncommand = {command}\n")
    (folder / "agents.toml").chmod(0o644)
    return ProcessEngine(folder / "agents.toml", folder / "run")


@only_root
def test_files_of_a_run_cannot_be_opened_or_locked_by_another_user(open_folder):
    before = os.umask(0)
    try:
        engine = engine_in(open_folder)
        (open_folder / "run").mkdir(mode=0o755)
        engine.start("agent")
    finally:
        os.umask(before)
    try:
        paths = list((open_folder / "run").iterdir())
        assert len(paths) == 2
        with as_another_user():
            for path in paths:
                with pytest.raises(PermissionError):
                    path.open("rb")
    finally:
        engine.stop("agent", 5)
    assert not [path for path in (open_folder / "run").iterdir() if path.stat().st_mode & 0o077]


@only_root
def test_a_process_of_another_user_is_not_ended_and_that_is_said(open_folder):
    engine = engine_in(open_folder)
    engine.start("agent")
    for path in (open_folder / "run", *(open_folder / "run").iterdir()):
        path.chmod(0o755)
    try:
        said = pytest.raises(EngineRefused, match="belongs to another user")
        with mock.patch("lifecycle.engines.process.engine.KILL_SECONDS", 0), as_another_user(), said:
            engine.stop("agent", 0)
    finally:
        engine.stop("agent", 5)


@only_root
@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_run_directory_of_another_user_is_refused(open_folder, user):
    engine = engine_in(open_folder)
    (open_folder / "run").mkdir()
    os.chown(open_folder / "run", NOBODY - user, -1)
    with as_another_user() if user else nullcontext(), pytest.raises(EngineUnreachable, match="belongs to user"):
        engine.start("agent")


@only_root
def test_a_program_in_a_folder_that_cannot_be_opened_is_rejected(open_folder):
    (open_folder / "closed").mkdir(mode=0o700)
    engine = engine_in(open_folder, '"./closed/agent"')
    with as_another_user(), pytest.raises(StartRejected, match="correct the mode of its folders"):
        engine.start("agent")


@only_root
@pytest.mark.parametrize("call", ["instances", "inspect", "start", "stop", "output"])
def test_a_run_directory_that_another_user_closed_is_an_unreachable_engine(open_folder, call):
    engine = engine_in(open_folder)
    (open_folder / "run").mkdir(mode=0o700)
    arguments = {"instances": [], "stop": ["agent", 1], "output": ["agent", 5]}.get(call, ["agent"])
    with as_another_user(), pytest.raises(EngineUnreachable, match=r"the run directory .*(correct its|make it yours)"):
        getattr(engine, call)(*arguments)


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 64 KiB without free space."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted")
    with suppress(OSError):
        (folder / "filler").write_bytes(b"x" * 65536)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_run_directory_is_said_and_starts_nothing(rig, full_disk):
    name = rig.add_command(SLEEPS)
    engine = ProcessEngine(rig.agents_file, full_disk)
    with pytest.raises(EngineUnreachable, match=r"No space left on device\): free space"):
        engine.start(name)
    assert not engine.inspect(name).running
    (full_disk / "filler").unlink()
    engine.start(name)
    assert engine.stop(name, 5) is Outcome.DONE


def test_an_agent_goes_on_when_its_output_fills_the_disk(rig, full_disk):
    (full_disk / "filler").unlink()
    name = rig.add_command(shell("seq 100000; exit 3"))
    engine = ProcessEngine(rig.agents_file, full_disk)
    engine.start(name)
    wait_for(lambda: not engine.inspect(name).running)
    assert "1\n2\n3\n" in (full_disk / f"{name}.log").read_text()


@pytest.mark.parametrize("suffix", [".lock", ".log"])
def test_a_link_in_the_run_directory_is_not_followed(rig, engine, suffix):
    name = rig.add_command(SLEEPS)
    rig.run_dir.mkdir(mode=0o700)
    target = rig.agents_file.with_name("target")
    target.write_text("untouched")
    link = rig.run_dir / f"{name}{suffix}"
    link.symlink_to(target)
    with pytest.raises(EngineUnreachable, match="remove the link"):
        engine.start(name)
    assert target.read_text() == "untouched"
    link.unlink()
