"""The groups for people: one for each role of a token, with the same permissions."""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

from access.permissions import ROLES


def ensure_groups(sender: object, using: str, **kwargs: Any) -> None:
    """Create the missing groups, and add their missing permissions. What an administrator added stays.

    This receives post_migrate. The app must stand behind the apps that define the permissions: Django creates those of
    each app when its own post_migrate is sent.
    """
    for role, permissions in ROLES.items():
        group, _ = Group.objects.using(using).get_or_create(name=f"{role.capitalize()}s")
        group.permissions.add(*Permission.objects.using(using).filter(_any_of(permissions)))


def _any_of(permissions: frozenset[str]) -> Q:
    found = Q()
    for permission in permissions:
        app, codename = permission.split(".")
        found |= Q(content_type__app_label=app, codename=codename)
    return found
