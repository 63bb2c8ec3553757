"""Every error under /api/ is problem details."""

import logging

import pytest
from django.db import OperationalError
from django.test import Client

TOKEN = {"Authorization": "Bearer the-tests-token"}
pytestmark = pytest.mark.django_db


def ask(method, address, **headers):
    client = Client(raise_request_exception=False)
    answer = getattr(client, method)(address, headers=TOKEN | headers)
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer


@pytest.fixture
def broken(monkeypatch):
    def break_with(error):
        def fail(*arguments, **more):
            raise error

        monkeypatch.setattr("lifecycle.api.status.describe", fail)

    return break_with


def test_an_unknown_address():
    assert ask("get", "/api/nothing").status_code == 404


@pytest.mark.parametrize("address", ["/api/instances", "/api/events"])
def test_a_method_that_an_address_does_not_have(address):
    answer = ask("delete", address)
    assert answer.status_code == 405
    assert answer["Allow"] in answer.json()["detail"]


def test_a_mistake_of_ours(broken):
    broken(ZeroDivisionError("secret"))
    answer = ask("get", "/api/instances")
    assert answer.status_code == 500
    assert "secret" not in answer.content.decode()


def test_a_mistake_of_ours_in_debug_mode(broken, settings):
    settings.DEBUG = True
    broken(ZeroDivisionError())
    assert ask("get", "/api/instances").status_code == 500


def test_a_database_that_does_not_answer(broken, caplog):
    broken(OperationalError("disk I/O error"))
    assert ask("get", "/api/instances").status_code == 503
    assert "/api/instances was not answered, because the database cannot be used: disk I/O error" in caplog.text


def test_a_database_that_does_not_answer_for_a_token(monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(
        "access.middleware.find_user", lambda credentials: (_ for _ in ()).throw(OperationalError("gone"))
    )
    assert ask("get", "/api/instances").status_code == 503
    assert "because the database cannot be used: gone" in caplog.text


def test_a_foreign_host():
    assert ask("get", "/api/instances", Host="elsewhere.example").status_code == 400


def test_too_many_parameters():
    assert ask("get", "/api/events?" + "&".join(["a=b"] * 2000)).status_code == 400


def test_other_addresses_keep_their_pages():
    answer = Client().get("/nothing")
    assert (answer.status_code, answer["Content-Type"]) == (404, "text/html; charset=utf-8")
