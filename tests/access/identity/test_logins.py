"""Logins are locked after wrong passwords, logged, and cost a bounded amount of hashing."""

import threading
from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client, RequestFactory
from django.utils import timezone

from access.identity import logins
from access.identity.logins import client_address

LOGIN = "/accounts/login/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def admin():
    return User.objects.create_superuser("admin", password="right")


def sign_in(password, name="admin", path=LOGIN, **more):
    return Client(**more).post(path, {"username": name, "password": password})


@pytest.mark.parametrize("path", [LOGIN, "/admin/login/"])
def test_a_name_is_locked_after_five_wrong_passwords(admin, path):
    statuses = [sign_in("wrong", path=path).status_code for _ in range(5)]
    assert statuses == [200] * 4 + [429]
    answer = sign_in("right", path=path)
    assert (answer.status_code, answer["Retry-After"]) == (429, "900")
    assert "locked at your address for 15 minutes" in answer.content.decode()


def test_the_lock_ends_after_15_minutes_even_if_tries_go_on(admin):
    for _ in range(8):
        sign_in("wrong")
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=15, seconds=1))
    assert sign_in("right").status_code == 302


def test_another_address_and_another_name_are_not_locked(admin):
    User.objects.create_superuser("other", password="right")
    for _ in range(5):
        sign_in("wrong")
    assert sign_in("right", REMOTE_ADDR="192.0.2.1").status_code == 302
    assert sign_in("right", "other").status_code == 302


def test_a_success_forgets_the_failures_before_it(admin):
    for _ in range(3):
        for _ in range(4):
            sign_in("wrong")
        assert sign_in("right").status_code == 302


def test_the_answers_do_not_say_whether_a_name_exists(admin):
    for _ in range(6):
        known, unknown = sign_in("wrong"), sign_in("wrong", "nobody")
        assert known.status_code == unknown.status_code


@pytest.mark.parametrize("name", ["admin", "nobody", "a" * 300])
def test_a_password_is_hashed_once_whether_the_name_exists_or_not(admin, monkeypatch, name):
    """The time of an answer does not tell either: hashing is what takes time."""
    hashed = []
    encode = PBKDF2PasswordHasher.encode

    def count(self, *arguments):
        hashed.append(arguments)
        return encode(self, *arguments)

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", count)
    sign_in("wrong", name)
    assert len(hashed) == 1


def test_a_name_that_is_longer_than_the_table_holds_is_counted_too(admin):
    for _ in range(5):
        sign_in("wrong", "a" * 300)
    assert sign_in("wrong", "a" * 300).status_code == 429
    assert [attempt.username for attempt in AccessAttempt.objects.all()] == ["a" * 255]


def test_each_failure_is_logged_and_a_name_cannot_forge_a_line(admin, caplog):
    sign_in("wrong", "admin\n2026-01-01 INFO forged")
    assert r"A login failed: name 'admin\n2026-01-01 INFO forged', address 127.0.0.1" in caplog.text


def test_invented_names_do_not_fill_the_table(admin, monkeypatch):
    monkeypatch.setattr(logins, "MAX_ROWS", 5)
    for number in range(12):
        sign_in("wrong", f"invented-{number}")
    assert AccessAttempt.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_passwords_are_checked_one_at_a_time(admin, monkeypatch):
    at_once, most = [], []

    def check(self, request, **credentials):
        at_once.append(1)
        most.append(len(at_once))
        threading.Event().wait(0.02)
        at_once.pop()

    monkeypatch.setattr("django.contrib.auth.backends.ModelBackend.authenticate", check)

    def attempt(number):
        sign_in("wrong", f"name-{number}")
        connections.close_all()

    threads = [threading.Thread(target=attempt, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ([], "198.51.100.7", "192.0.2.1"),
        (["192.0.2.1"], "198.51.100.7", "198.51.100.7"),
        (["192.0.2.0/24"], "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (["192.0.2.0/24", "198.51.100.7"], "203.0.113.9, 198.51.100.7", "203.0.113.9"),
        (["192.0.2.1"], "", "192.0.2.1"),
        (["192.0.2.1"], "unknown", "192.0.2.1"),
    ],
)
def test_the_address_is_the_clients_behind_trusted_proxies(settings, trusted, forwarded, address):
    settings.DORMOUSE_TRUSTED_PROXIES = trusted
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", headers={"X-Forwarded-For": forwarded})
    assert client_address(request) == address
