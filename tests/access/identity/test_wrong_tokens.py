"""A wrong token is compared in the same time, however much of it is right: only digests are compared."""

import hashlib
import secrets

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access.identity import tokens
from access.models import Token


def change_at(place):
    """Return a function that makes a token wrong in one character."""
    return lambda text: text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :]


#: Wrong tokens that have the form of one. `dm_` comes before the secret part.
WRONG = {"at its first character": change_at(3), "in its middle": change_at(20), "at its last character": change_at(45)}
#: What has another form is no secret.
OF_ANOTHER_FORM = {"too short": lambda text: text[:-1], "too long": lambda text: text + "x", "no prefix": change_at(0)}


def ask(change):
    """Return a wrong token, and the queries that it takes to find that out."""
    wrong = change(Token.objects.issue("ci-bot", "operator")[1])
    with CaptureQueriesContext(connection) as asked:
        assert not tokens.verify(wrong).is_authenticated
    return wrong, [query["sql"] for query in asked.captured_queries]


@pytest.mark.django_db
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_token_is_looked_up_by_its_digest_alone(change):
    wrong, (query,) = ask(change)
    assert hashlib.sha256(wrong.encode()).hexdigest() in query


@pytest.mark.django_db
@pytest.mark.parametrize("change", OF_ANOTHER_FORM.values(), ids=OF_ANOTHER_FORM)
def test_what_has_another_form_is_not_looked_up(change):
    assert ask(change)[1] == []


@pytest.mark.parametrize("wrong", ["x", "xhe-tests-token", "the-tests-tokex", "the-tests-token-and-more", ""])
def test_the_token_of_the_environment_is_compared_by_digests_of_one_length(monkeypatch, wrong):
    compared = []
    monkeypatch.setattr(secrets, "compare_digest", lambda one, other: compared.append((one, other)))
    tokens._is_same(wrong, "the-tests-token")
    ((one, other),) = compared
    assert len(one) == len(other) == hashlib.sha256().digest_size
    assert one != other
