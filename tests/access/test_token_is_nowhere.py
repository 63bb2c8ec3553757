"""The text of a token is in no table, log, event or page."""

from pathlib import Path

import httpx
import pytest
from django.db import connection
from django.test import Client

from access.models import Token
from tests.servers import wait_for


def everything_in_the_database():
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            yield from (str(row) for row in cursor.fetchall())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("debug", ["false", "true"])
def test_a_token_that_was_used_is_nowhere(serve, debug):
    server = serve(DJANGO_DEBUG=debug)
    text = Token.objects.issue("ci-bot", "operator")[1]
    answers = []
    for headers in ({"Authorization": f"Bearer {text}"}, {"Dormouse-Token": text}, {"Dormouse-Token": f"{text}x"}):
        with httpx.Client(base_url=server.url, headers=headers) as client:
            for path in ("/agents/", "/nothing", "/api/nothing", "/api/events?after=x", "/admin/", "/api/instances/a"):
                answers.append(client.get(path))
            answers += [client.post("/api/events", json={"type": "a.b"}), client.post("/api/events", content=b"{")]
            answers += [client.post("/agents/"), client.get("/agents/", headers={"Host": "elsewhere"})]
    wait_for(lambda: Token.objects.get().last_used, what="the last use to be written")
    assert {200, 201, 302, 400, 401, 404, 405} <= {answer.status_code for answer in answers}
    assert [answer.url.path for answer in answers if text in answer.text] == []
    assert text not in server.log.read_text()
    shown = [Path(f"/proc/{server.process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    assert [one for one in shown if text.encode() in one] == []
    assert [row for row in everything_in_the_database() if text in row] == []


@pytest.mark.django_db
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("broken", ["agents_ui.timeline.newest", "access.identity.tokens._look_up"])
@pytest.mark.parametrize("header", ["Authorization", "Dormouse-Token"])
def test_a_page_of_a_mistake_shows_no_token(
    monkeypatch, settings, caplog, debug, broken, header, uses_are_written_at_once
):
    def fail(*arguments):
        raise ZeroDivisionError

    text = Token.objects.issue("ci-bot", "viewer")[1]
    monkeypatch.setattr(broken, fail)
    settings.DEBUG = debug
    value = f"Bearer {text}" if header == "Authorization" else text
    answer = Client(raise_request_exception=False).get("/agents/", headers={header: value})
    assert answer.status_code == 500
    assert ("ZeroDivisionError" in answer.content.decode()) is debug
    assert text not in answer.content.decode()
    assert text not in caplog.text


@pytest.mark.django_db
def test_a_page_of_a_mistake_shows_no_session_key(monkeypatch, settings, admin_client):
    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("agents_ui.timeline.newest", fail)
    settings.DEBUG = True
    admin_client.raise_request_exception = False
    page = admin_client.get("/agents/").content.decode()
    assert "ZeroDivisionError" in page
    assert admin_client.session.session_key not in page
