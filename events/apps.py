from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate, pre_migrate

from lifecycle.supervision import jobs


class EventsConfig(AppConfig):
    """Connects the lifecycle's signals to the log, and keeps the log's triggers installed."""

    name = "events"

    def ready(self) -> None:
        """Connect the receivers, and let the supervisor prune."""
        from events import keeping, receivers  # noqa: F401
        from events.integrity import triggers

        if settings.DORMOUSE_KEEP:
            jobs.register(keeping.PRUNING)
        pre_migrate.connect(triggers.remove_before_migrate, sender=self, dispatch_uid="events.integrity.triggers")
        post_migrate.connect(triggers.install, sender=self, dispatch_uid="events.integrity.triggers")
