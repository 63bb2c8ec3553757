"""The tables of this app. Each is in the folder of what it belongs to."""

from telling.subscriptions.models import Subscription

__all__ = ["Subscription"]
