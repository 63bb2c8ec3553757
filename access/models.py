"""Tokens of programs."""

import hashlib
import secrets
import string
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

PREFIX = "dm_"
SECRET_CHARACTERS = 43
ALPHABET = string.ascii_letters + string.digits
#: The name of the token in DORMOUSE_API_TOKEN.
ENVIRONMENT = "environment"


class Role(models.TextChoices):
    """The role of a token. `access.permissions.ROLES` says which permissions each role has."""

    VIEWER = "viewer"
    DISPATCHER = "dispatcher"
    OPERATOR = "operator"


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token, in hexadecimal. No salt is needed, because a token cannot be guessed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def check_name(name: str) -> None:
    """Raise ValidationError if no token may be called `name`."""
    if name == ENVIRONMENT:
        raise ValidationError(f"The name {ENVIRONMENT!r} is reserved for DORMOUSE_API_TOKEN.")
    if name != name.strip() or not name.isprintable():
        raise ValidationError(f"The name {name!r} has blanks at its ends, or characters that cannot be seen.")


class TokenQuerySet(models.QuerySet["Token"]):
    """The writes to tokens, and the question whether one is valid."""

    def issue(
        self, name: str, role: str, *, instances: list[str] | None = None, expires: datetime | None = None
    ) -> tuple["Token", str]:
        """Create a token. Return it with its text, which is kept nowhere.

        Raises ValidationError for a name that was given out before or is reserved, and for an unknown role.
        """
        text = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_CHARACTERS))
        token = Token(name=name, role=role, instances=instances or [], expires=expires, digest=digest_of(text))
        token.full_clean()
        token.save(force_insert=True)
        return token, text

    def revoke(self, now: datetime) -> int:
        """Revoke these tokens for ever. Return how many that were. Their rows stay, so that names stay taken."""
        return self.filter(revoked=None).update(revoked=now)

    def note_use(self, minute: datetime) -> None:
        """Keep the minute in which these tokens were last used."""
        self.filter(models.Q(last_used=None) | models.Q(last_used__lt=minute)).update(last_used=minute)


class Token(models.Model):
    """A secret that lets a program in. Only its SHA-256 is kept. A row is never deleted."""

    #: Never given out again, because the events say by name who did something.
    name = models.CharField(max_length=100, unique=True, validators=[check_name])
    digest = models.CharField(max_length=64, unique=True, editable=False)
    role = models.CharField(max_length=16, choices=Role)
    #: The names of the instances that it is for. Empty: it is for all.
    instances = models.JSONField(default=list, blank=True)
    created = models.DateTimeField(default=timezone.now)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True)
    #: To the minute. None: it was never used.
    last_used = models.DateTimeField(null=True, blank=True)

    objects = TokenQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def is_valid(self, now: datetime) -> bool:
        """Return whether it lets a program in."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def status(self, now: datetime) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if self.is_valid(now) else "expired"
