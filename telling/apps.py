from django.apps import AppConfig


class TellingConfig(AppConfig):
    """Tells other programs and people what happens: metrics, traces and subscriptions."""

    name = "telling"
