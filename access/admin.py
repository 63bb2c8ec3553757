"""Tokens, locked logins and sessions, for staff. Tokens are created by `manage.py create_token` alone."""

from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from access.identity.sessions import end_sessions, open_sessions
from access.models import Token
from access.read_only_admin import ReadOnlyAdmin


@admin.register(Token)
class TokenAdmin(ReadOnlyAdmin):
    """The tokens, without their digests."""

    fields = ["name", "role", "instances", "status", "created", "expires", "revoked", "last_used"]
    list_display = ["name", "role", "instances", "status", "created", "expires", "last_used"]
    list_filter = ["role"]
    search_fields = ["name"]
    actions = ["revoke"]

    @admin.display(description="status")
    def status(self, token: Token) -> str:
        """Return whether it lets a program in."""
        return token.status(timezone.now())

    @admin.action(description="Revoke the chosen tokens for ever", permissions=["revoke"])
    def revoke(self, request: HttpRequest, tokens: Any) -> None:
        """Revoke the chosen tokens, and note who did it."""
        valid = tokens.filter(revoked=None)
        for token in valid:
            self.log_change(request, token, "Revoked.")
        self.message_user(request, f"Tokens revoked: {valid.revoke(timezone.now())}.")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may change tokens."""
        return request.user.has_perm("access.change_token")


@admin.register(AccessAttempt)
class FailedLoginAdmin(ReadOnlyAdmin):
    """The failed logins that are counted: five of a name at an address lock it."""

    fields = ["username", "ip_address", "failures_since_start", "attempt_time"]
    list_display = ["username", "ip_address", "failures_since_start", "attempt_time"]
    search_fields = ["username", "ip_address"]
    actions = ["forget"]

    @admin.action(description="Lift the locks: forget the chosen failures", permissions=["forget"])
    def forget(self, request: HttpRequest, attempts: QuerySet[AccessAttempt]) -> None:
        """Remove the chosen rows, so that the names can sign in again at once."""
        self.log_deletions(request, attempts)
        removed, _ = attempts.delete()
        self.message_user(request, f"Failures forgotten: {removed}.")

    def has_forget_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may delete failed logins."""
        return request.user.has_perm("axes.delete_accessattempt")


admin.site.unregister(User)


@admin.register(User)
class UserWithSessionsAdmin(UserAdmin):  # type: ignore[type-arg]  # cannot be subscripted when it runs
    """The users, with the number of their open sessions. Keys of sessions are not shown: they would let one in."""

    actions = ["end_sessions"]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return Django's columns and the number of sessions, for which all sessions are read once."""
        found = open_sessions()

        @admin.display(description="open sessions")
        def sessions(user: User) -> int:
            return len(found.get(str(user.pk), ()))

        return [*super().get_list_display(request), "last_login", sessions]

    @admin.action(description="End the sessions of the chosen users", permissions=["change"])
    def end_sessions(self, request: HttpRequest, users: QuerySet[User]) -> None:
        """Sign the chosen users out everywhere. Their streams end within 60 s."""
        ended = end_sessions({str(pk) for pk in users.values_list("pk", flat=True)})
        self.message_user(request, f"Sessions ended: {ended}.")
