from django.apps import AppConfig


class AccessConfig(AppConfig):
    """Identifies the user of a request, names the permissions, and answers with refusals."""

    name = "access"
