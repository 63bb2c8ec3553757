from django.apps import AppConfig


class AccessConfig(AppConfig):
    """Registers who is asking, what they may do, and the answers that refuse."""

    name = "access"
