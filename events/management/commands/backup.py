"""Copy the database to a file while Dormouse runs. docs/restoring.md says how to restore it.

The copy holds what was committed when the command began to copy. Only its owner can read it. An existing file is
refused, and a copy that is interrupted leaves no file.
"""

import os
import shutil
import sqlite3
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection


class Command(BaseCommand):
    """The command `manage.py backup FILE`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the file."""
        parser.add_argument("file", type=Path, help="the file to make; for PostgreSQL in pg_dump's custom format")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        """Copy to a file beside FILE, and give it its name when it is whole."""
        if os.path.lexists(file):
            raise CommandError(f"{file} exists already: name another file")
        partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
        try:
            partial.touch(mode=0o600, exist_ok=False)
            copy_sqlite(partial) if connection.vendor == "sqlite" else dump_postgresql(partial)
            os.link(partial, file)  # unlike a rename, this never replaces a file
        except FileExistsError:
            raise CommandError(f"{file} exists already: name another file") from None
        except (OSError, sqlite3.Error) as error:
            raise CommandError(f"{file} could not be made: {error}") from None
        finally:
            for left in (partial, Path(f"{partial}-journal"), Path(f"{partial}-wal"), Path(f"{partial}-shm")):
                left.unlink(missing_ok=True)
        self.stdout.write(f"{file} has {file.stat().st_size} bytes.")


def copy_sqlite(path: Path) -> None:
    """Copy the database to `path`, in one read transaction, which other processes do not wait for. Check the copy.

    Raises OSError or sqlite3.Error.
    """
    connection.ensure_connection()
    target = sqlite3.connect(path)
    try:
        connection.connection.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # so that the copy is this file alone
        found = target.execute("PRAGMA quick_check(1)").fetchone()[0]
    finally:
        target.close()
    if found != "ok":
        raise sqlite3.DatabaseError(f"the copy is damaged: {found}")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def dump_postgresql(path: Path) -> None:
    """Dump the database to `path` with pg_dump. Raises OSError, or CommandError with what pg_dump says."""
    program = shutil.which("pg_dump")
    if not program:
        raise CommandError("pg_dump is in no folder of PATH: apt-get install postgresql-client")
    settings = connection.settings_dict
    # Not as arguments, which every user of the machine can see.
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    found = {variable: str(settings[name]) for variable, name in names.items() if settings[name]}
    modes = {"PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert", "PGSSLCERT": "sslcert", "PGSSLKEY": "sslkey"}
    found |= {
        variable: str(settings["OPTIONS"][name]) for variable, name in modes.items() if name in settings["OPTIONS"]
    }
    with path.open("wb") as file:
        command = [program, "--format=custom", "--no-password"]
        ended = subprocess.run(
            command, stdout=file, stderr=subprocess.PIPE, env=os.environ | found, text=True, check=False
        )
        os.fsync(file.fileno())
    if ended.returncode:
        raise CommandError(f"pg_dump failed: {ended.stderr.strip()}")
