"""Whether a token is valid, and what it lets a program do.

A valid token is remembered for CACHE_SECONDS, so that most requests need no query and no thread. A revoked token is
refused in every process after that time. Only digests are compared and remembered.
"""

import hashlib
import logging
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, connection
from django.utils import timezone

from access.models import ALPHABET, ENVIRONMENT, PREFIX, SECRET_CHARACTERS, Token, digest_of
from access.permissions import ROLES

logger = logging.getLogger(__name__)

TOKEN = re.compile(f"{PREFIX}[{ALPHABET}]{{{SECRET_CHARACTERS}}}")
CACHE_SECONDS = 0.5


@dataclass(frozen=True)
class TokenUser:
    """A program that sent a valid token. It has no access to the admin.

    It offers the part of Django's user interface that views, middleware and the admin use.
    """

    username: str = ENVIRONMENT
    role: str = "dispatcher"
    #: The names of the instances that the token is for. Empty: it is for all.
    instances: frozenset[str] = frozenset()

    pk = None
    is_authenticated = True
    is_anonymous = False
    is_active = True
    is_staff = False
    is_superuser = False

    def get_username(self) -> str:
        """Return the name of the token, which pages, events and logs show."""
        return self.username

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Return whether the token's role includes the permission `perm`."""
        return perm in ROLES[self.role]

    def has_perms(self, perms: list[str], obj: object = None) -> bool:
        """Return whether the token's role includes all of `perms`."""
        return all(self.has_perm(perm) for perm in perms)

    async def ahas_perm(self, perm: str, obj: object = None) -> bool:
        """Return the same as `has_perm`, for coroutines."""
        return self.has_perm(perm)

    def has_module_perms(self, app_label: str) -> bool:
        """Return False, because the admin is for people."""
        return False


def limits_of(user: Any) -> frozenset[str]:
    """Return the names of the only instances that `user` has to do with. Empty: there is no such limit."""
    return user.instances if isinstance(user, TokenUser) else frozenset()


@dataclass(frozen=True)
class _Known:
    user: TokenUser
    expires: datetime | None
    #: Until when this holds, on the monotonic clock.
    until: float


#: By digest: one entry for each token that was valid in this process.
_known: dict[str, _Known] = {}


def verify_known(token: str) -> TokenUser | AnonymousUser | None:
    """Return the user of a token if that needs no query; for a wrong one AnonymousUser. None: `verify` must decide."""
    if settings.DORMOUSE_API_TOKEN and _is_same(token, settings.DORMOUSE_API_TOKEN):
        return TokenUser()
    if not TOKEN.fullmatch(token):
        return AnonymousUser()
    known = _known.get(digest_of(token))
    if known is None or time.monotonic() >= known.until or (known.expires and timezone.now() >= known.expires):
        return None
    return known.user


def verify(token: str) -> TokenUser | AnonymousUser:
    """Return the user of a token, or AnonymousUser if it is wrong, revoked or expired. Raises DatabaseError."""
    return verify_known(token) or _look_up(digest_of(token))


def _is_same(token: str, expected: str) -> bool:
    """Compare in a time that depends on neither, because digests have one length. Headers are decoded as Latin-1."""
    sent, kept = token.encode("latin-1", "replace"), expected.encode()
    return secrets.compare_digest(hashlib.sha256(sent).digest(), hashlib.sha256(kept).digest())


def _look_up(digest: str) -> TokenUser | AnonymousUser:
    began, now = time.monotonic(), timezone.now()
    row = Token.objects.filter(digest=digest).first()
    if row is None or not secrets.compare_digest(row.digest, digest) or not row.is_valid(now):
        _known.pop(digest, None)
        return AnonymousUser()
    user = TokenUser(row.name, row.role, frozenset(row.instances))
    _known[digest] = _Known(user, row.expires, began + CACHE_SECONDS)
    _note_use(row, now.replace(second=0, microsecond=0))
    return user


# The last use, in a thread of its own, so that no answer waits for the write.

_writer = ThreadPoolExecutor(1, "token-use")
#: By digest: the last minute that was given to the writer.
_noted: dict[str, datetime] = {}


def _note_use(row: Token, minute: datetime) -> None:
    """Let the writer keep the minute of the last use, once for each minute."""
    if any(noted and noted >= minute for noted in (row.last_used, _noted.get(row.digest))):
        return
    _noted[row.digest] = minute
    with suppress(RuntimeError):  # the process ends
        _writer.submit(_write_use, row.name, minute)


def _write_use(name: str, minute: datetime) -> None:
    try:
        Token.objects.filter(name=name).note_use(minute)
    except DatabaseError as error:
        logger.warning("The last use of the token %s was not kept, because the database failed: %s", name, error)
    finally:
        connection.close()
