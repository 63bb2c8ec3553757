"""manage.py create_admin: the first user, so that somebody can sign in."""

import os
import secrets
import stat
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError

NAME = "admin"


class Command(BaseCommand):
    help = (
        f"Creates the superuser {NAME!r} with a generated password, kept in a file that only its owner can read, when "
        "there is no superuser yet. Changes nothing when there is one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--password-file",
            type=Path,
            default=default_path(),
            help="where the password is kept (default: %(default)s)",
        )

    def handle(self, *args: Any, password_file: Path, **options: Any) -> None:
        if User.objects.filter(is_superuser=True).exists():
            self.stdout.write(reminder(password_file))
            return
        password = kept_password(password_file)
        try:
            User.objects.create_superuser(NAME, password=password)
        except IntegrityError:
            raise CommandError(
                f"There is a user {NAME!r} already, who is no superuser. See manage.py createsuperuser."
            ) from None
        self.stdout.write(f"Sign in as {NAME} with the password in {password_file}: {password}")


def default_path() -> Path:
    """Beside the database where that is a file."""
    database = settings.DATABASES["default"]
    folder = Path(database["NAME"]).parent if "sqlite3" in database["ENGINE"] else settings.VAR_DIR
    return Path(folder) / "admin-password"


def reminder(path: Path) -> str:
    """What to say at a later start. The file is believed only as long as the password is still that."""
    user = User.objects.filter(username=NAME, is_superuser=True).first()
    if user and path.is_file() and user.check_password(read_private(path)):
        return f"Sign in as {NAME} with the password in {path}"
    return "Sign in with the password that was chosen. To set a new one: manage.py changepassword NAME"


def kept_password(path: Path) -> str:
    """The password in `path`, written there before any user has it: whatever is interrupted, it is not lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600, exist_ok=False)
    try:
        draft.write_text(secrets.token_urlsafe(12) + "\n")
        os.link(draft, path)  # never over a file that is there, and never half of one
    except FileExistsError:
        pass  # of an interrupted start, or of a database that is gone
    finally:
        draft.unlink()
    return read_private(path)


def read_private(path: Path) -> str:
    """What the file says. Raises CommandError for one that others may read or wrote."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise CommandError(f"{path} is not a file that only you can read; remove it, or name another --password-file.")
    return path.read_text().strip()
