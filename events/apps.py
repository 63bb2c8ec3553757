from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate


class EventsConfig(AppConfig):
    """Connects the lifecycle's signals to the log, and keeps the log's triggers installed."""

    name = "events"

    def ready(self) -> None:
        """Connect the receivers."""
        from events import receivers, triggers  # noqa: F401

        pre_migrate.connect(triggers.remove_before_migrate, sender=self, dispatch_uid="events.triggers")
        post_migrate.connect(triggers.install, sender=self, dispatch_uid="events.triggers")
