"""What the engine is asked, what docs/docker-engine.md says of it, and what deploy/socket-proxy.cfg lets through."""

import http.client
import os
import re
import shutil
import subprocess

import pytest

from lifecycle.engines.docker.engine import DockerEngine
from lifecycle.engines.labels import PREFIX
from tests.conftest import need
from tests.docker.support.engine import HOST
from tests.servers import PROJECT, free_port, wait_for

#: A request of the table: "GET /containers/NAME/json".
REQUEST = re.compile(r"^\| [\w ]+ \| `(GET|POST|DELETE) (/\S+)`", re.MULTILINE)


def table():
    """Return the requests that the document says must be allowed."""
    section = (PROJECT / "docs" / "docker-engine.md").read_text().partition("## What must be allowed")[2]
    return set(REQUEST.findall(section.partition("\n## ")[0]))


def shape(request, name):
    """Return the method and the path of a request without the version of the API, the name and the query."""
    method, path = request.split("?")[0].split()
    return method, re.sub(r"^/v1\.\d+", "", path).replace(name, "NAME")


def test_the_table_has_every_request_of_the_engine_and_no_other(containers, proxy):
    name = containers.create(command=["sleep", "1000"], sleep="pause")
    engine = DockerEngine(os.environ | {"DOCKER_HOST": proxy.host})
    changes = engine.watch_changes()
    engine.instances()
    engine.near_misses()
    engine.start(name)
    assert next(changes)
    engine.pause(name)
    engine.resume(name)
    engine.stop(name, 0)
    engine.inspect(name)
    engine.output(name, 20)
    engine.mark({f"{PREFIX}installation": "x"})
    engine.remove_mark()
    for client in engine._clients.values():
        client.close()
    assert {shape(request, name) for request in proxy.requests} == table()


@pytest.fixture
def socket_proxy(docker_api, tmp_path):
    """Start HAProxy with the file in `deploy/` before the suite's engine, and return its port."""
    need("proxies", shutil.which("haproxy"), "apt-get install haproxy")
    port = free_port()
    text = (PROJECT / "deploy" / "socket-proxy.cfg").read_text()
    assert (text.count("bind :2375"), text.count(" /var/run/docker.sock\n")) == (1, 1)
    text = text.replace("bind :2375", f"bind 127.0.0.1:{port}")
    (tmp_path / "haproxy.cfg").write_text(text.replace("/var/run/docker.sock", HOST.removeprefix("unix://")))
    process = subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.DEVNULL)
    wait_for(lambda: process.poll() is None and is_open(port), what="HAProxy")
    yield port
    process.terminate()
    process.wait()


def is_open(port):
    try:
        return ask(port, "GET", "/version") == 200
    except OSError:
        return False


#: What `POST /volumes/create` must say.
MARK = '{"Name": "dormouse-mark", "Labels": {"dormouse.installation": "x"}}'


def ask(port, method, path):
    """Return the status of the answer. The stream of events is left after its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, MARK if "/volumes/create" in path else None, {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_socket_proxy_lets_the_requests_of_the_table_through_and_no_other(socket_proxy):
    for method, path in table():
        other = {"GET": "POST", "POST": "GET", "DELETE": "POST"}[method]
        assert ask(socket_proxy, method, f"/v1.41{path}?until=1") != 403, path
        assert ask(socket_proxy, other, f"/v1.41{path}") == 403, path
        assert ask(socket_proxy, method, f"/v1.41{path}/more") == 403, path
        assert ask(socket_proxy, method, f"/v1.41/more{path}") == 403, path
        assert path == "/version" or ask(socket_proxy, method, f"/v1.23{path}") == 403, path
