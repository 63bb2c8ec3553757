"""One turn of one subscription: it delivers in order, and notes how far it came."""

import logging
import secrets
from collections.abc import Callable
from typing import Protocol

from django.conf import settings

from lifecycle.clock import Clock
from telling.subscriptions.batches import BATCH_ROWS, Step, read_steps
from telling.subscriptions.failures import DeliveryFailed
from telling.subscriptions.messages import Message, of_test
from telling.subscriptions.models import Subscription
from telling.subscriptions.persons import PersonSender
from telling.subscriptions.programs import ProgramSender
from telling.subscriptions.sealing import Unsealable
from telling.subscriptions.targets import parse

logger = logging.getLogger(__name__)

#: After this time a turn ends, so that other subscriptions get theirs if there are more of them than threads.
TURN_SECONDS = 20.0
#: The cursor is written after at most so many deliveries to a program, or this time. So after a kill no more than those
#: are repeated. A person should be told nothing twice, so the cursor of a person is written after each delivery.
SAVE_EVENTS, SAVE_SECONDS = 50, 1.0
#: The pauses before the next tries in a turn. After the last one the failure is written down.
SHORT_PAUSES = (0.1, 0.3)


class Sender(Protocol):
    """Delivers messages to one receiver."""

    def send(self, message: Message) -> None:
        """Deliver the message. Raises DeliveryFailed."""

    def close(self) -> None:
        """Give back what it holds."""


class ClaimLost(Exception):
    """Another process delivers now, or a person has changed the subscription. The cursor must not be written."""


def make_sender(row: Subscription, clock: Clock) -> Sender:
    """Return what delivers to the subscription's URL. Raises Unsealable, and DeliveryFailed if settings forbid it."""
    if not settings.DORMOUSE_PUBLIC_URL:
        raise DeliveryFailed("DORMOUSE_PUBLIC_URL is not set in the process that delivers")
    url = row.open_url()
    try:
        parse(url)  # DORMOUSE_WEBHOOK_PRIVATE may have changed since it was subscribed
    except ValueError as error:
        raise DeliveryFailed(str(error)) from None
    return ProgramSender(url, row.open_secrets(clock.now())) if row.is_program else PersonSender(url)


def deliver_test(row: Subscription) -> None:
    """Send a test message, once. Raises DeliveryFailed and Unsealable."""
    clock = Clock()
    sender = make_sender(row, clock)
    try:
        sender.send(of_test(row.name, secrets.token_hex(8), clock.now()))
    finally:
        sender.close()


class Turn:
    """Delivers what comes after the cursor of a subscription that this process has claimed."""

    def __init__(self, row: Subscription, clock: Clock, may_go_on: Callable[[], bool]) -> None:
        self._row, self._clock, self._may_go_on = row, clock, may_go_on
        self._until = clock.monotonic() + TURN_SECONDS
        #: The cursor of what was delivered, and what of that is not written yet.
        self._cursor, self._unsaved, self._saved_at = row.cursor, 0, clock.monotonic()

    def run(self) -> None:
        """Deliver until nothing is left, a delivery fails, or the turn's time is over. Raises DatabaseError."""
        try:
            sender = make_sender(self._row, self._clock)
        except Unsealable as error:
            Subscription.objects.pause(self._row, str(error), self._clock.now())
            return
        except DeliveryFailed as error:
            self._note_failure(error)
            return
        try:
            while self._go_on() and self._deliver(read_steps(self._row, self._clock.now()), sender):
                pass
        except DeliveryFailed as error:
            self._note_failure(error)
        except ClaimLost:
            logger.info("The subscription %s is delivered by another process now, or was changed", self._row.name)
        finally:
            sender.close()

    def _go_on(self) -> bool:
        return self._may_go_on() and self._has_time()

    def _has_time(self) -> bool:
        return self._clock.monotonic() < self._until

    def _deliver(self, steps: list[Step], sender: Sender) -> bool:
        """Deliver the steps. Return False if there is nothing more to do. Raises DeliveryFailed and ClaimLost."""
        for step in steps:
            if not (self._has_time() and self._deliver_step(step, sender)):
                break
        self._save()
        return len(steps) >= BATCH_ROWS or bool(steps and steps[-1].messages)

    def _deliver_step(self, step: Step, sender: Sender) -> bool:
        """Deliver the messages of a step. Return False if this process may not go on before all of them are sent."""
        for message in step.messages:
            if not self._may_go_on():
                return False
            self._send(message, sender)
        self._advance(step)
        return True

    def _send(self, message: Message, sender: Sender) -> None:
        """Deliver a message, with the tries of SHORT_PAUSES while this process may go on. Raises DeliveryFailed."""
        for pause_seconds in SHORT_PAUSES:
            try:
                return sender.send(message)
            except DeliveryFailed as error:
                if error.is_final or error.retry_after or not self._may_go_on():
                    raise
                self._save()
                self._clock.sleep(pause_seconds)
        return sender.send(message)

    def _advance(self, step: Step) -> None:
        self._cursor = step.cursor
        self._unsaved += len(step.messages)
        is_long_ago = self._clock.monotonic() - self._saved_at > SAVE_SECONDS
        if self._unsaved and (not self._row.is_program or self._unsaved >= SAVE_EVENTS or is_long_ago):
            self._save()

    def _save(self) -> None:
        """Write the cursor if it has moved. Raises ClaimLost."""
        if self._cursor == self._row.cursor:
            return
        delivered = self._clock.now() if self._unsaved else None
        if not Subscription.objects.advance(self._row, self._cursor, delivered):
            raise ClaimLost
        if delivered:
            self._row.failing_since, self._row.tries = None, 0
        self._unsaved, self._saved_at = 0, self._clock.monotonic()

    def _note_failure(self, error: DeliveryFailed) -> None:
        """Write down what was delivered before, and why the next delivery failed."""
        name, now = self._row.name, self._clock.now()
        try:
            self._save()
        except ClaimLost:
            return
        if error.is_final:
            if Subscription.objects.pause(self._row, str(error), now):
                logger.warning("The subscription %s is paused: %s", name, error)
            return
        if not self._row.tries:
            logger.warning("A delivery to the subscription %s failed, and is tried again: %s", name, error)
        Subscription.objects.note_failure(self._row, str(error), now, error.retry_after)
