"""The keeper of one local process: a small program of its own, as containers have. It works without Dormouse, too.

It runs the agent's command, writes the output to files of a bounded size, and holds the instance's locked run file
until the command and all its descendants have ended. The kernel gives it every descendant whose own parent has ended
(PR_SET_CHILD_SUBREAPER), so it also follows an agent that becomes a daemon, or closes the descriptors it inherited.

It is run by its path and imports only the standard library, because it starts with every agent (10 ms, 10 MB).
Source: prctl(2), proc(5)
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections import defaultdict
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
#: A full output file replaces the older one. So an agent has at most twice this on the disk.
MAX_OUTPUT_BYTES = 5 * 1024 * 1024
OLDER_SUFFIX = ".old"
CHUNK_BYTES = 64 * 1024
#: The signals that ask a program to end. The keeper passes them on, and stays until all processes have ended.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Output:
    """The output file. When it is full, it becomes the older one, and a new one is begun."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write what fits. If the disk is full the rest is lost, and the agent goes on."""
        with contextlib.suppress(OSError):
            self._size += os.write(self._file, data)
        if self._size >= MAX_OUTPUT_BYTES:
            self._begin_new()

    def _begin_new(self) -> None:
        self._size = 0
        try:
            self._path.replace(f"{self._path}{OLDER_SUFFIX}")
            new = self._open()
        except OSError:  # the run directory cannot be written to any more
            os.truncate(self._file, 0)
        else:
            os.dup2(new, self._file, inheritable=False)
            os.close(new)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)


class Keeper:
    """Runs the command, and waits for it and its descendants in one loop."""

    def __init__(self, lock: int, output: Output) -> None:
        self._lock = lock
        self._output = output
        self._pipe, self._pipe_end = os.pipe()
        self._signals, signals_end = os.pipe()
        for descriptor in (self._pipe, self._signals, signals_end):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(signals_end, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *ENDING):
            signal.signal(number, lambda *_: None)
        self._is_stopping = False
        self._must_kill = False
        #: The exit codes of the command and of what ended last. None: the command has not ended.
        self._code: int | None = None
        self._last_code = 0

    def run(self, command: list[str], handshake: int) -> int:
        """Run the command. Return its exit code when no descendant is left.

        `handshake` is a pipe that is closed when the command runs. If it cannot be run, the errno is written there.
        """
        self._command_pid = os.fork()
        if not self._command_pid:
            _become(command, self._pipe_end, handshake)
        os.write(self._lock, b"%d\n" % self._command_pid)
        os.close(self._pipe_end)
        _close_handshake(handshake)
        ready = select.poll()
        ready.register(self._signals, select.POLLIN)
        ready.register(self._pipe, select.POLLIN)
        while self._reap():
            for descriptor, _ in ready.poll():
                if descriptor == self._signals:
                    self._pass_on(os.read(self._signals, CHUNK_BYTES))
                elif not self._copy_output():
                    ready.unregister(self._pipe)
        while self._copy_output():
            pass
        return self._code or self._last_code

    def _pass_on(self, numbers: bytes) -> None:
        for number in set(numbers) & set(ENDING):
            self._is_stopping = True
            _signal_descendants(number)

    def _copy_output(self) -> bool:
        """Copy what the processes have written. Return False at the end."""
        try:
            data = os.read(self._pipe, CHUNK_BYTES)
        except BlockingIOError:
            return False
        self._output.write(data)
        return bool(data)

    def _reap(self) -> bool:
        """Note the exit codes of the children that have ended. Return whether any child is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                self._note_end(pid, os.waitstatus_to_exitcode(status))
        except ChildProcessError:
            return False
        if self._must_kill:
            _signal_descendants(signal.SIGKILL)
        return True

    def _note_end(self, pid: int, code: int) -> None:
        """Note an exit code. As in a container, a command that fails takes what it has started with it.

        A command that ends with 0 and leaves processes behind has become a daemon: the last of them counts.
        """
        code = code if code >= 0 else 128 - code
        if pid == self._command_pid:
            self._code = code
            self._must_kill = code != 0 and not self._is_stopping
        elif self._code is not None:
            self._last_code = code


def descendants(root: int) -> list[int]:
    """Return the pids of all descendants of the process `root`."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]
            children[int(parent)].append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found[1:]


def _signal_descendants(number: int) -> None:
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _become(command: list[str], output: int, handshake: int) -> None:
    """Become the command, in a session of its own. It is killed if the keeper is."""
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        os.write(handshake, str(error.errno).encode())
        os._exit(127)


def _close_handshake(handshake: int) -> None:
    """Close all our copies of the pipe to the parent. Until then an error of the keeper itself is written there."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    os.close(handshake)


def main(lock: int, token: str, run_file: str, command: list[str]) -> None:
    """Keep `command` as the run `token`. The handshake is a pipe: our standard output and standard error."""
    handshake = os.dup(1)  # which the command does not inherit
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    keeper = Keeper(lock, Output(Path(f"{run_file}.log")))
    # Not written by the parent: if that were killed before, it would leave a process that no other process can name.
    os.write(lock, Path("/proc/self/stat").read_bytes())
    code = keeper.run(command, handshake)
    with contextlib.suppress(OSError):
        descriptor = os.open(f"{run_file}.exit", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.write(descriptor, f"{token} {code}".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
