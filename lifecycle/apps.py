from django.apps import AppConfig


class LifecycleConfig(AppConfig):
    """Instances and engines: when an instance is started and stopped, and the signals that say so."""

    name = "lifecycle"

    def ready(self) -> None:
        """Register the system checks."""
        from lifecycle import checks  # noqa: F401
