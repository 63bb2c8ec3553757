"""The groups that each migrate makes sure of."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command

from access.permissions import ADD_EVENTS, CONTROL, DISPATCH, VIEW_EVENTS

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("name", "permissions"),
    [
        ("Viewers", {VIEW_EVENTS}),
        ("Dispatchers", {VIEW_EVENTS, DISPATCH}),
        ("Operators", {VIEW_EVENTS, DISPATCH, CONTROL, ADD_EVENTS}),
    ],
)
def test_the_first_migrate_fills_the_groups(name, permissions):
    user = User.objects.create_user("anne")
    user.groups.add(Group.objects.get(name=name))
    assert user.get_all_permissions() == permissions


def test_a_later_migrate_adds_what_is_missing_and_removes_nothing():
    viewers = Group.objects.get(name="Viewers")
    viewers.permissions.set(Permission.objects.filter(codename="view_lease"))
    Group.objects.get(name="Operators").delete()
    call_command("migrate", verbosity=0)
    assert set(viewers.permissions.values_list("codename", flat=True)) == {"view_lease", "view_eventlog"}
    assert Group.objects.get(name="Operators").permissions.count() == 4
