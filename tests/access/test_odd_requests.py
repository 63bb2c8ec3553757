"""Odd input of strangers gets a 4xx, and no traceback."""

import pytest
from django.conf import settings
from django.test import Client

from access.identity.sessions import SessionStore

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("key", ["aaaaaaaaaa\0b", "a" * 41, "AAAAAAAAAAAA", "short", "", None])
def test_no_such_key_is_looked_up_in_the_database(key, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert SessionStore(key).session_key is None


@pytest.mark.parametrize("key", ['"aaaaaaaaaa\\000b"', "a" * 5000, "ä" * 20, "../../etc/passwd", "'; DROP TABLE x", ""])
@pytest.mark.parametrize("address", ["/agents/", "/agents/instances", "/api/instances", "/admin/", "/accounts/login/"])
def test_a_cookie_that_is_no_session_key_means_signed_out(address, key):
    client = Client(raise_request_exception=True)
    answer = client.get(address, headers={"cookie": f"{settings.SESSION_COOKIE_NAME}={key}"})
    assert answer.status_code in (200, 302, 401)
