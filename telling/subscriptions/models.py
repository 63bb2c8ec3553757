"""Subscriptions: which URL is told of which events, and how far that has come."""

import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F
from django.utils import timezone

from events.models import EventLog
from telling.subscriptions.sealing import Unsealable, is_current, seal, unseal
from telling.subscriptions.signing import make_secret
from telling.subscriptions.targets import Target

#: A subscription is paused when no delivery has succeeded for this long.
PATIENCE = timedelta(days=3)
#: The pause after the first failed try that is written down. Each later one is twice as long, up to the longest.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1, 3600
#: A subscription is behind if an event that is this old waits for it.
BEHIND_AFTER = timedelta(seconds=60)


def _latest_before(moment: datetime) -> int:
    """Return the id of the latest event before `moment`, 0 if there is none."""
    return EventLog.objects.filter(at__lt=moment).order_by("-at").values_list("id", flat=True).first() or 0


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    """The writes to subscriptions. Those of the owner compare the version that it has claimed."""

    def subscribe(self, target: Target, **values: Any) -> tuple["Subscription", str]:
        """Create a subscription. Return it with its secret, or with an empty text if the target is a person.

        Raises ValidationError for a name that cannot be used or is taken.
        """
        secret = make_secret() if target.is_program else ""
        row = Subscription(
            is_program=target.is_program, shown=target.shown, url=seal(target.url), secret=seal(secret), **values
        )
        row.full_clean()
        row.save(force_insert=True)
        return row, secret

    def claim(self, row: "Subscription", owner: uuid.UUID) -> bool:
        """Make `owner` the one that delivers, unless the row has changed since it was read. Return whether it is."""
        claimed = self.filter(pk=row.pk, version=row.version).update(owner=owner, version=F("version") + 1)
        row.owner, row.version = owner, row.version + 1
        return bool(claimed)

    def advance(self, row: "Subscription", cursor: int, delivered: datetime | None) -> bool:
        """Note that everything up to `cursor` is delivered. Return False if the claim was lost.

        `delivered` is the time of the latest delivery. None: nothing was delivered, because no event matched.
        """
        told = {"delivered": delivered, "failing_since": None, "tries": 0, "error": ""} if delivered else {}
        row.cursor = cursor
        return bool(self._claimed(row).update(cursor=cursor, **told))

    def note_failure(self, row: "Subscription", error: str, now: datetime, retry_after: int = 0) -> bool:
        """Note a failed delivery and the next try; pause after PATIENCE. Return False if the claim was lost."""
        since = row.failing_since or now
        if now - since >= PATIENCE:
            return self.pause(row, f"No delivery succeeded for 3 days. The latest failure: {error}", now)
        seconds = min(max(FIRST_PAUSE_SECONDS * 2 ** min(row.tries, 20), retry_after), LONGEST_PAUSE_SECONDS)
        next_try = now + timedelta(seconds=seconds)
        values = {"failing_since": since, "tries": row.tries + 1, "error": error, "next_try": next_try}
        return bool(self._claimed(row).update(**values))

    def pause(self, row: "Subscription", reason: str, now: datetime) -> bool:
        """Deliver nothing more until a person resumes it. Return False if the claim was lost."""
        return bool(self._claimed(row).update(paused=now, error=reason))

    def resume(self, cursor: int | None = None) -> int:
        """Deliver again, at once, whatever has failed, after `cursor` if that is given. Return how many that were."""
        values: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
        return self.update(
            paused=None, failing_since=None, tries=0, error="", next_try=None, version=F("version") + 1, **values
        )

    def reseal(self) -> None:
        """Seal with the present key what was sealed with one before, so that the key before can be forgotten."""
        for row in self:
            names = [name for name in ("url", "secret", "old_secret") if not is_current(getattr(row, name) or seal(""))]
            if names:
                with suppress(Unsealable):  # its turn says that
                    self._claimed(row).update(**{name: seal(unseal(getattr(row, name))) for name in names})

    def states(self, now: datetime) -> dict[str, str]:
        """Return the state of each by its name: `paused`, `failing`, `behind` or `delivering`."""
        rows = list(self.only("name", "cursor", "paused", "failing_since"))
        old = _latest_before(now - BEHIND_AFTER) if rows else 0
        return {row.name: "behind" if row.state() == "delivering" and row.cursor < old else row.state() for row in rows}

    def _claimed(self, row: "Subscription") -> "SubscriptionQuerySet":
        return self.filter(pk=row.pk, version=row.version)


class Subscription(models.Model):
    """A URL that is told of events, in the order of the log. Commands create it, change it and end it."""

    name = models.CharField(max_length=100, unique=True, validators=[RegexValidator(r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z")])
    is_program = models.BooleanField()
    #: The URL without its credentials.
    shown = models.TextField()
    #: The URL, and the secret of a program's signatures, sealed (see `sealing`).
    url = models.TextField(editable=False)
    secret = models.TextField(editable=False)
    #: The secret before the latest rotation, sealed, which is also signed with until `old_secret_until`.
    old_secret = models.TextField(editable=False, blank=True, default="")
    old_secret_until = models.DateTimeField(null=True, blank=True)

    #: Which events: of these types (`container.*` stands for many) and instances; empty: of all.
    types = models.JSONField(default=list, blank=True)
    instances = models.JSONField(default=list, blank=True)
    failures = models.BooleanField(default=False)
    #: Whether output of agents is told, too.
    output = models.BooleanField(default=False)
    created = models.DateTimeField(default=timezone.now)

    #: The id of the last event that was delivered or did not match.
    cursor = models.PositiveBigIntegerField()
    delivered = models.DateTimeField(null=True, blank=True)
    failing_since = models.DateTimeField(null=True, blank=True)
    #: The failed tries in a row that were written down.
    tries = models.PositiveIntegerField(default=0)
    next_try = models.DateTimeField(null=True, blank=True)
    #: Why the latest delivery failed, or why it is paused.
    error = models.TextField(blank=True, default="")
    paused = models.DateTimeField(null=True, blank=True)

    #: The worker that delivers. It keeps this until it has ended.
    owner = models.UUIDField(null=True, blank=True, editable=False)
    #: Moves with each claim, and when a person changes something, so that the owner notices.
    version = models.PositiveBigIntegerField(default=0, editable=False)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def open_url(self) -> str:
        """Return the URL. Raises Unsealable."""
        return unseal(self.url)

    def open_secrets(self, now: datetime) -> list[str]:
        """Return the secrets to sign with, the newest first. Raises Unsealable."""
        is_old_valid = self.old_secret and self.old_secret_until and now < self.old_secret_until
        return [unseal(self.secret)] + ([unseal(self.old_secret)] if is_old_valid else [])

    def rotate_secret(self, old_until: datetime) -> str:
        """Return a new secret. Until `old_until` deliveries are signed with the one before as well."""
        secret = make_secret()
        Subscription.objects.filter(pk=self.pk).update(
            old_secret=self.secret, old_secret_until=old_until, secret=seal(secret), version=F("version") + 1
        )
        return secret

    def describe_events(self) -> str:
        """Return which events it is told of: `failures of container.*, work.failed of reviewer-default`."""
        types = ", ".join(self.types) or ("events" if not self.failures else "")
        words = " of ".join(filter(None, ["failures" if self.failures else "", types, ", ".join(self.instances)]))
        return f"all {words}" if words == "events" else words

    def is_waiting(self, now: datetime) -> bool:
        """Return whether its next try is later."""
        return self.next_try is not None and now < self.next_try

    def state(self) -> str:
        """Return `paused`, `failing` or `delivering`."""
        if self.paused:
            return "paused"
        return "failing" if self.failing_since else "delivering"
