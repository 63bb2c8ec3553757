"""Files of Dormouse that only their owner may read: the database, secrets, run files, output.

A user who can read the database can read session keys, and sign in as any user with them.
"""

import logging
import os
import stat
from pathlib import Path

logger = logging.getLogger(__name__)

PRIVATE_UMASK = 0o077
#: Secrets are not narrowed: `access.files.secret_files` refuses one that was open, because others may know it.
SECRET_NAMES = ("secret-key", "admin-password")
#: The umask that this process had before `set_private_umask`. Local agents are started with it.
original_umask: int | None = None


def set_private_umask() -> None:
    """Let this process create files for their owner alone, whatever the umask of its shell."""
    global original_umask
    before = os.umask(PRIVATE_UMASK)
    if original_umask is None:
        original_umask = before


def make_private_folder(folder: Path) -> None:
    """Create the folder for its owner alone. If it exists, narrow it and what is inside, except secrets.

    Files that belong to another user are left alone, because only that user can change them. Links are not followed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    narrow(folder, *(path for path in sorted(folder.rglob("*")) if path.name not in SECRET_NAMES))


def narrow(*paths: Path) -> None:
    """Take the rights of group and others away from those of `paths` that exist, and log that if there were any."""
    narrowed = [path for path in paths if _narrow(path)]
    if narrowed:
        more = f" and {len(narrowed) - 1} more" if narrowed[1:] else ""
        logger.warning("%s%s could be opened by other users. Now only the owner can open it.", narrowed[0], more)


def _narrow(path: Path) -> bool:
    """Take the rights of group and others away from `path`. Return whether there were any."""
    try:
        found = path.lstat()
        mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid() or not mode & PRIVATE_UMASK:
            return False
        path.chmod(mode & ~PRIVATE_UMASK)
    except FileNotFoundError:  # another process has removed it
        return False
    return True
