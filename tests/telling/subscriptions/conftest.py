"""Receivers, and subscriptions to them."""

import pytest

from telling.subscriptions.models import Subscription
from telling.subscriptions.targets import parse
from tests.telling.subscriptions.receivers import Receiver


@pytest.fixture(autouse=True)
def deliveries_to_this_machine_are_allowed(settings):
    settings.DORMOUSE_PUBLIC_URL = "https://dormouse.example.org"
    settings.DORMOUSE_WEBHOOK_PRIVATE = True


@pytest.fixture
def receive():
    """Starts receivers: `receive(answer(500))`."""
    started = []

    def start(*arguments, **options):
        started.append(Receiver(*arguments, **options))
        return started[-1]

    yield start
    for receiver in started:
        receiver.stop()


@pytest.fixture
def subscribe(db):
    """Creates subscriptions: `subscribe(url, types=["a.b"])`. Returns the row and the secret."""

    def create(url, name="ops", cursor=0, **values):
        return Subscription.objects.subscribe(parse(url), name=name, cursor=cursor, **values)

    return create
