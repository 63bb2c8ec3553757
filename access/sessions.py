"""Sessions in the database, only for keys that Django itself could have made. SESSION_ENGINE names this module."""

import re

from django.contrib.sessions.backends import db

KEY = re.compile(r"[a-z0-9]{8,40}")


class SessionStore(db.SessionStore):
    """Django's session, to which any other key means: signed out.

    PostgreSQL refuses a query with NUL, so a cookie with NUL was answered with 500 on every page.
    """

    def _validate_session_key(self, key: str | None) -> bool:
        return bool(key) and bool(KEY.fullmatch(str(key)))
