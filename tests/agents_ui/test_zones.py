"""Times and days in the reader's zone, which a cookie names and the server checks."""

from datetime import UTC, datetime

import pytest
from django.test import Client
from pytest_django.asserts import assertContains

from events.log import record


def show(client: Client, zone: str, address: str = "/agents/") -> str:
    client.cookies["zone"] = zone
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


def test_rows_and_days_are_in_the_zone_that_the_cookie_names(signed_in: Client):
    record("a.b", at=datetime(2026, 11, 22, 20, 0, 11, tzinfo=UTC))
    page = show(signed_in, "Asia/Kolkata")
    assert "Monday 23 November 2026" in page
    assert '2026-11-23 </span>01:30:11 IST<span class="copied"> (UTC+5:30)</span>' in page


@pytest.mark.parametrize("address", ["/agents/?before=99999999", "/agents/activity?after=0", "/agents/activity/{id}"])
def test_it_holds_for_every_part(signed_in: Client, address: str):
    id = record("a.b", at=datetime(2026, 11, 22, 20, 0, 11, tzinfo=UTC)).id
    assert "01:30:11 IST" in show(signed_in, "Asia/Kolkata", address.format(id=id))


def test_a_zone_without_letters_of_its_own_says_its_distance(signed_in: Client):
    record("a.b", at=datetime(2026, 11, 22, 20, tzinfo=UTC))
    assert "17:00:00 UTC-3<" in show(signed_in, "America/Sao_Paulo")


@pytest.mark.parametrize(
    "zone", ["", "Nowhere/At_All", "Europe", "../../etc/passwd", "/etc/localtime", "A" * 5000, "<b>", "localtime"]
)
def test_what_is_no_zone_is_utc(signed_in: Client, zone: str):
    record("a.b", at=datetime(2026, 11, 22, 20, tzinfo=UTC))
    assert "20:00:00 UTC<" in show(signed_in, zone)


def test_the_hour_that_comes_twice_is_told_apart(signed_in: Client):
    record("a.b", at=datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    record("a.b", at=datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    page = show(signed_in, "Europe/Berlin")
    assert page.index("02:30:00 CET<") < page.index("02:30:00 CEST<")
    assert page.count("Sunday 25 October 2026") == 1


def test_the_zone_of_one_reader_is_not_that_of_the_next(signed_in: Client):
    record("a.b", at=datetime(2026, 11, 22, 20, tzinfo=UTC))
    show(signed_in, "Asia/Kolkata")
    del signed_in.cookies["zone"]
    assertContains(signed_in.get("/agents/"), "20:00:00 UTC<")
