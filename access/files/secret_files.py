"""Generated secrets, each in a file that only its owner can read: the secret key, the first password."""

import os
import secrets
import shlex
import stat
from collections.abc import Callable
from pathlib import Path


class SecretFileError(Exception):
    """A secret file cannot be used. The message says why, and which command mends or shows the cause."""


def read_or_create_secret(path: Path, generate: Callable[[], str]) -> str:
    """Return the secret in `path`. If there is no such file, write a generated secret there first.

    Several processes may do this at once, even on several machines: the first one wins, and no process ever reads half
    a secret. The draft's name is random, because two containers on one volume may both have the pid 1.

    Raises SecretFileError, as `read_secret`, and if the file cannot be created.
    """
    if not os.path.lexists(path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path, generate())
        except OSError as error:
            raise SecretFileError(
                f"{path} cannot be created ({error.strerror}). Its folder must be a folder that you can write to, with "
                f"free space: ls -ld {_quoted(path.parent)}; df {_quoted(path.parent)}"
            ) from error
    return read_secret(path)


def read_secret(path: Path) -> str:
    """Return the secret in `path`. A link is not followed.

    Raises FileNotFoundError if there is no such file, and SecretFileError if it is no regular file, belongs to another
    user, is open to others, cannot be read, or is empty.
    """
    try:
        # O_NONBLOCK, because opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor) as file:
            # The open file is checked, because another file may have the name by now.
            _check(path, os.fstat(descriptor))
            secret = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        _check(path, path.lstat())  # a link, or a file of another user
        raise SecretFileError(f"{path} cannot be read ({error}). Replace it: rm {_quoted(path)}") from error
    if not secret:
        raise SecretFileError(f"{path} is empty. Remove it, and a new secret is generated: rm {_quoted(path)}")
    return secret


def _check(path: Path, found: os.stat_result) -> None:
    """Raise SecretFileError if `found`, the facts about the file `path`, say that its secret cannot be trusted."""
    mode = stat.S_IMODE(found.st_mode)
    quoted = _quoted(path)
    if not stat.S_ISREG(found.st_mode):
        raise SecretFileError(f"{path} is not a regular file that only you can read. Remove it: rm {quoted}")
    if found.st_uid != os.geteuid():
        raise SecretFileError(
            f"{path} is not a file that only you can read: it belongs to user {found.st_uid}. "
            f"Make it yours: chown {os.geteuid()} {quoted}"
        )
    if mode & 0o077:
        raise SecretFileError(
            f"{path} is not a file that only you can read: its mode is {mode:04o}. Others may know the secret, so "
            f"replace it: rm {quoted}. If you alone use this machine, keep it: chmod 600 {quoted}"
        )
    if not mode & 0o400:
        raise SecretFileError(f"{path} cannot be read by you: its mode is {mode:04o}. Correct it: chmod 600 {quoted}")


def _create(path: Path, secret: str) -> None:
    """Write the secret to a draft and link that to `path`, unless another process was faster."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Wait until the names in the folder are on the disk, so that a power failure does not lose the secret's file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(path: Path) -> str:
    """Return the path as a word that can be pasted into a shell."""
    return shlex.quote(str(path))
