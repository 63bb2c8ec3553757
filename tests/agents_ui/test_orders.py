"""The forms of a card: what they do, and what they say. `tests/browser/test_orders.py` uses them as a person does."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils.html import escape
from pytest_django.asserts import assertContains, assertNotContains

from lifecycle import assembly
from tests.lifecycle.conftest import (
    NAME,
    agent,
    box,
    clock,
    engine,
    events,
    leased,
    lifecycle,
    row,
    use,
    wait_for_orders,
)

__all__ = ["agent", "box", "clock", "engine", "events", "lifecycle"]  # fixtures


@pytest.fixture
def site(transactional_db, lifecycle, clock, box, monkeypatch):
    """The web process's lifecycle, on the fake engine."""
    monkeypatch.setattr(assembly, "_lifecycles", {"web": lifecycle})
    monkeypatch.setattr(assembly, "clock", clock)
    yield lifecycle
    wait_for_orders()


@pytest.fixture
def send(site) -> Callable[..., Any]:
    """Send the form of an operator's card: `send("sleep", force="true")`."""
    client = Client()
    user = User.objects.create_user("alice")
    user.groups.add(Group.objects.get(name="Operators"))
    client.force_login(user)

    def post(order: str, agent: str = NAME, **fields: str) -> Any:
        return client.post(f"/agents/instances/{agent}/{order}", fields, follow=True)

    post.client = client  # type: ignore[attr-defined]
    return post


def said(answer) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def test_each_order_leads_back_to_the_page_and_says_what_happened(send, site, clock):
    assert said(send("wake")) == [f"{NAME} is ready, after 0 ms."]
    assert said(send("wake")) == [f"{NAME} was ready."]
    assert said(send("keep-awake", **{"for": "4h"})) == [f"{NAME} is not put to sleep within 4 h."]
    assert said(send("let-sleep")) == [f"{NAME} is put to sleep when it is idle."]
    assert said(send("sleep")) == [f"{NAME} is asleep."]
    assert said(send("disable", reason="key"))[0].startswith(f"{NAME} is disabled.")
    assert row().disabled["reason"] == "key"
    assert said(send("enable")) == [f"{NAME} is enabled."]


@pytest.mark.parametrize(
    ("order", "fields", "words"),
    [
        ("keep-awake", {"for": "soon"}, "'soon' is no duration"),
        ("keep-awake", {}, "'' "),
        ("keep-awake", {"for": "1h"}, "Only an agent that is ready can be kept awake"),
    ],
)
def test_what_cannot_be_done_is_said(send, order, fields, words):
    (sentence,) = said(send(order, **fields))
    assert words in sentence


def test_work_in_flight_is_asked_about_first(send, site):
    with leased(site):
        answer = send("sleep")
        assert b"has 1 piece of work in flight" in answer.content
        assert row().state == "ready"
        assert said(send("sleep", force="true")) == [f"{NAME} is asleep."]


@pytest.mark.parametrize(
    "place", ["//elsewhere.example/agents/", "https://elsewhere.example", "/admin/", "/agents/\n", ""]
)
def test_it_leads_to_no_other_page(send, place):
    assert send("sleep", next=place).redirect_chain == [("/agents/", 302)]


PLACE = "/agents/?instance=a%26b&type=container.lazy_stopped"


@pytest.mark.parametrize("order", ["wake", "sleep", "keep-awake", "let-sleep", "disable", "enable"])
def test_it_leads_back_to_the_same_filter(send, order):
    assert send(order, next=PLACE).redirect_chain == [(PLACE, 302)]


def test_the_questions_lead_back_to_the_same_filter(send, site):
    shown = f'<input type="hidden" name="next" value="{escape(PLACE)}">'
    asked = send.client.get(f"/agents/instances/{NAME}/disable", {"next": PLACE})
    assertContains(asked, shown, count=1, html=True)
    assertContains(asked, f'href="{escape(PLACE)}"', count=1)
    elsewhere = send.client.get(f"/agents/instances/{NAME}/disable", {"next": "//elsewhere.example/agents/"})
    assertNotContains(elsewhere, "elsewhere")
    with leased(site):
        assertContains(send("sleep", next=PLACE), shown, count=1, html=True)


def test_the_login_leads_back_to_the_same_filter(site):
    (redirect,) = Client().post(f"/agents/instances/{NAME}/sleep", {"next": PLACE}, follow=True).redirect_chain
    assert unquote(redirect[0].partition("?next=")[2]) == PLACE


def test_an_unknown_agent_is_said(send):
    answer = send("sleep", agent="nobody")
    assert said(answer)[0].startswith("No instance is called nobody.")


def test_the_buttons_are_those_that_the_reader_may_use(site):
    use(site)
    shown = {}
    for group in ("Viewers", "Dispatchers", "Operators"):
        client = Client()
        user = User.objects.create_user(group)
        user.groups.add(Group.objects.get(name=group))
        client.force_login(user)
        text = client.get("/agents/").content.decode()
        shown[group] = ["Keep awake for 1 h" in text, "Put to sleep" in text, "Disable…" in text]
    assert shown == {
        "Viewers": [False, False, False],
        "Dispatchers": [True, False, False],
        "Operators": [True, True, True],
    }
