"""What an installation writes on its mark: its identity, and where its database is.

The identity is a row of the database, so it is restored with a backup, and copied with a copy. A copy is told from the
original by the place of its database, if the two places can be compared and have nothing in common.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction

from lifecycle.engines.labels import PREFIX
from lifecycle.models import Installation

#: The labels of a mark.
INSTALLATION, HOST, REALM, PLACE, FILE = (
    f"{PREFIX}{key}" for key in ("installation", "host", "database-realm", "database", "database-id")
)
#: Others may write labels too: what is shown of them is short and has no control characters.
MAX_SHOWN = 200


@dataclass(frozen=True)
class Place:
    """The place of a database. `name` and `id` of two databases can be compared if their `realm` is the same."""

    realm: str = ""
    name: str = ""
    id: str = ""

    def is_elsewhere(self, other: "Place") -> bool:
        """Return whether it is certain that the other is another database. Each of the names may change by itself."""
        is_comparable = bool(self.realm) and self.realm == other.realm
        return is_comparable and self.name != other.name and self.id != other.id


def our_mark() -> dict[str, str]:
    """Return the labels with which this installation marks an engine. Raises DatabaseError."""
    place = _find_place()
    return {
        INSTALLATION: str(Installation.read_identity()),
        HOST: socket.gethostname(),
        REALM: place.realm,
        PLACE: place.name,
        FILE: place.id,
    }


def is_same(mark: Mapping[str, str], ours: Mapping[str, str]) -> bool:
    """Return whether the mark was made by this installation."""
    return mark.get(INSTALLATION) == ours[INSTALLATION] and not _place_of(mark).is_elsewhere(_place_of(ours))


def is_copy(mark: Mapping[str, str], ours: Mapping[str, str]) -> bool:
    """Return whether the mark has our identity. If it is not of the same installation, one database is a copy."""
    return mark.get(INSTALLATION) == ours[INSTALLATION]


def describe(mark: Mapping[str, str]) -> str:
    """Return what a mark says of its installation, in one line."""
    facts = {"installation": mark.get(INSTALLATION, ""), "host": mark.get(HOST, ""), "database": mark.get(PLACE, "")}
    told = ", ".join(f"{name} {_one_line(fact)}" for name, fact in facts.items() if fact)
    return told or "its mark does not say which"


def _place_of(mark: Mapping[str, str]) -> Place:
    return Place(mark.get(REALM, ""), mark.get(PLACE, ""), mark.get(FILE, ""))


def _find_place() -> Place:
    """Return the place of the database.

    A file of SQLite is known by its path and its inode: a restored one has another inode, a moved one another path, and
    a mounted one may have another path in each container. A database of PostgreSQL is known by its name and its number
    in its cluster: a database that was made anew keeps its name, a renamed one its number.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor == "sqlite":
        return _place_of_file(str(connection.settings_dict["NAME"]))
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT system_identifier, current_database(), oid FROM pg_control_system(), pg_database"
                " WHERE datname = current_database()"
            )
            cluster, name, number = cursor.fetchone()
    except DatabaseError:  # this user may not ask that
        return Place()
    return Place("postgresql", f"{name} of cluster {cluster}", f"{number} of cluster {cluster}")


def _place_of_file(name: str) -> Place:
    path = Path(name)
    try:
        found = path.stat()
    except OSError:
        return Place()
    return Place(f"files of {socket.gethostname()}", str(path.resolve()), f"{found.st_dev}:{found.st_ino}")


def _one_line(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text)[:MAX_SHOWN]
