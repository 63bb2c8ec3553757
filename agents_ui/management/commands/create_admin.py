"""The command `manage.py create_admin`: the first user, so that a person can sign in."""

import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError

from access.files.secret_files import SecretFileError, read_or_create_secret, read_secret

NAME = "admin"


class Command(BaseCommand):
    """Creates the first superuser."""

    help = (
        f"Creates the superuser {NAME!r} with a generated password, kept in a file that only its owner can read, when "
        "there is no superuser yet. Changes nothing when there is one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the password's file."""
        parser.add_argument(
            "--password-file",
            type=Path,
            default=default_path(),
            help="where the password is kept (default: %(default)s)",
        )

    def handle(self, *args: Any, password_file: Path, **options: Any) -> None:
        """Create the superuser if there is none, and say how to sign in."""
        try:
            self.stdout.write(self._create_or_remind(password_file))
        except SecretFileError as error:
            raise CommandError(f"{error}\nOr name another file with --password-file.") from None

    def _create_or_remind(self, password_file: Path) -> str:
        if User.objects.filter(is_superuser=True).exists():
            return _reminder(password_file)
        # Written to the file before a user has it, so that an interrupted command does not lose the password.
        password = read_or_create_secret(password_file, lambda: secrets.token_urlsafe(12))
        try:
            User.objects.create_superuser(NAME, password=password)
        except IntegrityError:
            raise CommandError(
                f"There is a user {NAME!r} already, who is no superuser. See manage.py createsuperuser."
            ) from None
        # Only a person at a terminal is shown the password, because the log of a service is kept and sent elsewhere.
        shown = f": {password}" if self.stdout.isatty() else ""
        return f"Sign in as {NAME} with the password in {password_file}{shown}"


def default_path() -> Path:
    """Return a path beside the database if that is a file, else in var/."""
    database = settings.DATABASES["default"]
    folder = Path(database["NAME"]).parent if "sqlite3" in database["ENGINE"] else settings.VAR_DIR
    return Path(folder) / "admin-password"


def _reminder(path: Path) -> str:
    """Return what to say at a later start. The file is only mentioned if its password is still the user's."""
    user = User.objects.filter(username=NAME, is_superuser=True).first()
    if user and path.is_file() and user.check_password(read_secret(path)):
        return f"Sign in as {NAME} with the password in {path}"
    return "Sign in with the password that was chosen. To set a new one: manage.py changepassword NAME"
