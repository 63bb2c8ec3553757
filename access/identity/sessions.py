"""Sessions in the database, only for keys that Django itself could have made. SESSION_ENGINE names this module."""

import re
from collections import defaultdict
from collections.abc import Collection

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends import db
from django.utils import timezone

KEY = re.compile(r"[a-z0-9]{8,40}")


class SessionStore(db.SessionStore):
    """Django's session, to which any other key means: signed out.

    PostgreSQL refuses a query with NUL, so a cookie with NUL was answered with 500 on every page.
    """

    def _validate_session_key(self, key: str | None) -> bool:
        return bool(key) and bool(KEY.fullmatch(str(key)))


def open_sessions() -> dict[str, list[str]]:
    """Return the keys of the sessions that have not expired, by the primary key of their user as a text."""
    found = defaultdict(list)
    for session in SessionStore.get_model_class().objects.filter(expire_date__gt=timezone.now()):
        user = SessionStore().decode(session.session_data).get(SESSION_KEY)
        if user:
            found[user].append(session.session_key)
    return found


def end_sessions(users: Collection[str]) -> int:
    """Sign these users out everywhere. Return how many sessions ended."""
    keys = [key for user, keys in open_sessions().items() if user in users for key in keys]
    return int(SessionStore.get_model_class().objects.filter(pk__in=keys).delete()[0])
