import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client


@pytest.fixture
def operator(db: None) -> User:
    """May see events, and is nothing else."""
    user = User.objects.create_user("operator")
    user.user_permissions.add(Permission.objects.get(codename="view_eventlog"))
    return user


@pytest.fixture
def signed_in(client: Client, operator: User) -> Client:
    client.force_login(operator)
    return client


@pytest.fixture
def stranger(db: None) -> Client:
    """Signed in, without the permission."""
    client = Client()
    client.force_login(User.objects.create_user("stranger"))
    return client


@pytest.fixture
def rows(signed_in: Client) -> Callable[[str], list[int]]:
    """The ids of the events that an address shows, in the order shown."""

    def ids(address: str) -> list[int]:
        response = signed_in.get(address)
        assert response.status_code == 200
        return [int(id) for id in re.findall(r'data-id="(\d+)"', response.content.decode())]

    return ids
