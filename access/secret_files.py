"""Generated secrets, each in a file that only its owner can read: the secret key, the first password."""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path


class UnsafeSecretFile(Exception):
    """A secret file cannot be trusted. The message says why, and which command mends it."""


def read_or_create_secret(path: Path, generate: Callable[[], str]) -> str:
    """Return the secret in `path`. If there is no such file, write a generated secret there first.

    Several processes may do this at once, even on several machines: the first one wins, and no process ever reads half
    a secret. The draft's name is random, because two containers on one volume may both have the pid 1.

    Raises UnsafeSecretFile, as `read_secret`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.path.lexists(path):
        _create(path, generate())
    return read_secret(path)


def read_secret(path: Path) -> str:
    """Return the secret in `path`.

    Raises UnsafeSecretFile if `path` is no regular file, belongs to another user, is open to others, or is empty.
    """
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeSecretFile(f"{path} is not a regular file that only you can read. Remove it: rm {path}")
    if found.st_uid != os.geteuid():
        raise UnsafeSecretFile(
            f"{path} is not a file that only you can read: it belongs to user {found.st_uid}. "
            f"Make it yours: chown {os.geteuid()} {path}"
        )
    if mode & 0o077:
        raise UnsafeSecretFile(
            f"{path} is not a file that only you can read: its mode is {mode:04o}. Others may know the secret, so "
            f"replace it: rm {path}. If you alone use this machine, keep it: chmod 600 {path}"
        )
    secret = path.read_text().strip()
    if not secret:
        raise UnsafeSecretFile(f"{path} is empty. Remove it, and a new secret is generated: rm {path}")
    return secret


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
