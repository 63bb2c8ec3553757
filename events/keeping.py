"""Keeping the log as long as DORMOUSE_KEEP says: a job of the supervisor prunes it once a day."""

import logging

from django.conf import settings
from django.utils import timezone

from events.models import EventLog
from lifecycle.supervision.jobs import Job

logger = logging.getLogger(__name__)

DAY_SECONDS = 24 * 60 * 60


def prune_old_events() -> None:
    """Remove the events that are older than DORMOUSE_KEEP. Readers are told as by `manage.py prune_events`."""
    keep = settings.DORMOUSE_KEEP
    assert keep, "the job is registered only if the setting is there"
    now = timezone.now()
    removed = EventLog.objects.prune(EventLog.objects.floor_before(now - keep, now))
    if removed:
        logger.info("Removed %d events that were older than DORMOUSE_KEEP (%s)", removed, keep)


PRUNING = Job("prune the log", DAY_SECONDS, prune_old_events)
