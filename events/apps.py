from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate


class EventsConfig(AppConfig):
    name = "events"

    def ready(self) -> None:
        from events import append_only, receivers  # noqa: F401

        pre_migrate.connect(append_only.make_way, sender=self, dispatch_uid="events.append_only")
        post_migrate.connect(append_only.install, sender=self, dispatch_uid="events.append_only")
