import gzip
import zlib
from pathlib import Path

import pytest
import rjsmin
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory

from config.serving.compression import StaticCompressionMiddleware

GZIP = {"Accept-Encoding": "gzip"}
OURS = settings.BASE_DIR / "agents_ui/static/agents_ui"


@pytest.mark.parametrize("address", ["/agents/", "/agents/instances"])
def test_pages_are_compressed(signed_in: Client, address: str):
    response = signed_in.get(address, headers=GZIP)
    assert response["Content-Encoding"] == "gzip"
    assert b"<" in gzip.decompress(response.content)
    assert "Accept-Encoding" in response["Vary"]


def unpacked(path: str) -> bytes:
    packed = zlib.decompressobj(wbits=31)  # as browsers do: one member, and nothing after it
    body = packed.decompress(async_to_sync(load)(path))
    assert packed.eof
    assert packed.unused_data == b""
    return body


@pytest.mark.parametrize("name", ["agents.css", "dormouse.svg"])
def test_static_files_are_compressed_whole(name: str):
    assert unpacked(f"/static/agents_ui/{name}") == (OURS / name).read_bytes()


@pytest.mark.parametrize("name", ["agents.js", "stream.js", "instances.js", "reader.js", "leader.js"])
def test_our_scripts_go_without_their_comments(name: str):
    source = (OURS / name).read_bytes()
    assert unpacked(f"/static/agents_ui/{name}") == rjsmin.jsmin(source)
    assert len(rjsmin.jsmin(source)) < len(source) * 0.9


def test_scripts_of_others_go_as_they_are():
    source = finders.find("admin/js/theme.js")
    assert unpacked("/static/admin/js/theme.js") == Path(str(source)).read_bytes()


async def load(address: str) -> bytes:
    response = await AsyncClient().get(address, headers=GZIP)
    assert response["Content-Encoding"] == "gzip"
    assert response["Vary"] == "Accept-Encoding"
    return response.content


def test_who_cannot_decompress_gets_it_plain(signed_in: Client):
    assert "Content-Encoding" not in signed_in.get("/agents/")


def test_what_an_agent_answers_is_passed_on_as_it_comes(rf: RequestFactory):
    async def answer(request: object) -> StreamingHttpResponse:
        return StreamingHttpResponse(iter([b"x" * 1000]), content_type="text/plain")

    request = rf.get("/api/instances/a/dispatch", headers=GZIP)
    assert "Content-Encoding" not in async_to_sync(StaticCompressionMiddleware(answer))(request)


def test_a_compressed_fragment_is_not_sent_again(signed_in: Client):
    tag = signed_in.get("/agents/instances", headers=GZIP)["ETag"]
    assert signed_in.get("/agents/instances", headers=GZIP | {"If-None-Match": tag}).status_code == 304


def test_browsers_find_an_icon(client: Client):
    assert client.get("/favicon.ico")["Location"] == "/static/agents_ui/dormouse.svg"
