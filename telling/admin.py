"""The subscriptions, for staff. `manage.py subscribe` creates them, because only there the secret is shown."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest

from access.read_only_admin import ReadOnlyAdmin
from events.invisible import escape_invisible
from telling.subscriptions.failures import DeliveryFailed
from telling.subscriptions.models import Subscription
from telling.subscriptions.sealing import Unsealable
from telling.subscriptions.turns import deliver_test

#: Each test may take as long as a delivery.
MAX_TESTS = 3


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    """The subscriptions, without their credentials and secrets."""

    list_display = ["name", "shown", "describe_events", "state", "trouble", "cursor", "delivered"]
    fields = [
        *("name", "shown", "describe_events", "output", "state", "trouble", "cursor", "created", "delivered"),
        *("failing_since", "tries", "next_try", "paused", "old_secret_until"),
    ]
    search_fields = ["name", "shown"]
    actions = ["resume", "send_test"]

    @admin.display(description="trouble")
    def trouble(self, row: Subscription) -> str:
        """Return why the latest delivery failed, or why it is paused."""
        return escape_invisible(row.error)

    @admin.action(description="Try the chosen subscriptions again at once", permissions=["manage"])
    def resume(self, request: HttpRequest, rows: Any) -> None:
        """Resume the chosen subscriptions, and note who did it."""
        for row in rows:
            self.log_change(request, row, "Resumed.")
        self.message_user(request, f"Subscriptions resumed: {rows.resume()}.")

    @admin.action(description="Send a test to the chosen subscriptions", permissions=["manage"])
    def send_test(self, request: HttpRequest, rows: Any) -> None:
        """Deliver a test to a few of the chosen subscriptions, and say whether that succeeded."""
        for row in rows[:MAX_TESTS]:
            try:
                deliver_test(row)
                self.message_user(request, f"The test was delivered to {row.name}.")
            except (DeliveryFailed, Unsealable) as error:
                text = f"The test was not delivered to {row.name}: {escape_invisible(str(error))}"
                self.message_user(request, text, messages.ERROR)
        if rows.count() > MAX_TESTS:
            self.message_user(request, f"No more than {MAX_TESTS} are tested at a time.", messages.WARNING)

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may change subscriptions."""
        return request.user.has_perm("telling.change_subscription")
