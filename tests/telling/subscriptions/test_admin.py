"""Subscriptions in the admin: no secrets, and nothing to edit."""

import pytest
from django.urls import reverse

from telling.subscriptions.models import Subscription
from tests.telling.subscriptions.receivers import answer

LIST = reverse("admin:telling_subscription_changelist")


def act(client, action, row):
    return client.post(LIST, {"action": action, "_selected_action": [row.pk]}, follow=True).content.decode()


def test_the_list_and_the_page_show_the_state_and_no_secret(admin_client, subscribe):
    row, secret = subscribe(
        "https://user:s3cret@example.org/in", types=["container.*"], error="it answered \x1b[31m500"
    )
    page = reverse("admin:telling_subscription_change", args=[row.pk])
    for address in (LIST, page):
        text = admin_client.get(address).content.decode()
        assert "https://***@example.org/in" in text
        assert "container.*" in text
        assert r"it answered \x1b[31m500" in text
        assert "s3cret" not in text
        assert secret not in text
        assert row.secret not in text
        assert row.url not in text


def test_resume(admin_client, subscribe):
    row, _ = subscribe("https://example.org/in")
    Subscription.objects.update(paused=row.created)
    assert "Subscriptions resumed: 1." in act(admin_client, "resume", row)
    assert Subscription.objects.get().state() == "delivering"


def test_a_test_says_what_came_of_it(admin_client, subscribe, receive):
    receiver = receive()
    row, _ = subscribe(receiver.url)
    assert "The test was delivered to ops." in act(admin_client, "send_test", row)
    receiver.behave = answer(500)
    assert "The test was not delivered to ops: it answered 500" in act(admin_client, "send_test", row)


@pytest.mark.parametrize("name", ["add", "delete"])
def test_nothing_is_added_or_deleted_here(admin_client, subscribe, name):
    row, _ = subscribe("https://example.org/in")
    arguments = [] if name == "add" else [row.pk]
    assert admin_client.post(reverse(f"admin:telling_subscription_{name}", args=arguments)).status_code == 403
    assert Subscription.objects.count() == 1


def test_one_without_the_permission_cannot_resume(client, django_user_model, subscribe):
    from django.contrib.auth.models import Permission

    user = django_user_model.objects.create_user("reader", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_subscription"))
    client.force_login(user)
    row, _ = subscribe("https://example.org/in")
    Subscription.objects.update(paused=row.created)
    act(client, "resume", row)
    assert Subscription.objects.get().state() == "paused"
