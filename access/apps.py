from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccessConfig(AppConfig):
    """Identifies the user of a request, names the permissions, and answers with refusals."""

    name = "access"

    def ready(self) -> None:
        """Make sure of the groups after each migrate."""
        from access import groups

        post_migrate.connect(groups.ensure_groups, sender=self, dispatch_uid="access.groups")
