"""Finding the subscription that a command names."""

from django.core.management.base import CommandError

from telling.subscriptions.models import Subscription


def find(name: str) -> Subscription:
    """Return the subscription. Raises CommandError if there is none."""
    row = Subscription.objects.filter(name=name).first()
    if row is None:
        raise CommandError(f"No subscription is called {name!r}. See manage.py list_subscriptions.")
    return row
