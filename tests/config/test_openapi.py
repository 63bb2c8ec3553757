"""The description of the API agrees with the code: addresses, methods, and each answer that schemathesis gets."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from access.models import Token
from config.openapi import PATHS
from events.log import record
from lifecycle.models import EngineStatus, Instance
from tests.addresses import patterns
from tests.config.agents import agents_file
from tests.servers import PROJECT

LONG = "DORMOUSE_LONG" in os.environ
METHODS = ["get", "put", "post", "delete", "patch"]
#: What passes to an agent or never ends, and is not fuzzed.
NOT_FUZZED = "^/events$|/dispatch$|/proxy/"


def described():
    return {path: sorted(set(METHODS) & set(operations)) for path, operations in PATHS.items() if path != "/events"}


def as_described(pattern):
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", pattern)


def test_every_address_of_the_api_is_described_and_no_other():
    api = {pattern for pattern in patterns() if pattern.startswith("api/") or pattern == "metrics"}
    assert set(described()) == {as_described(pattern) for pattern in api}


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "methods"), [one for one in described().items() if not re.search(NOT_FUZZED, one[0])])
def test_the_methods_that_are_described_are_those_that_there_are(path, methods):
    refused = Client().options(path.replace("{name}", "nobody"))
    assert refused.status_code == 405
    assert set(refused["Allow"].lower().split(", ")) - {"head"} == set(methods)


def test_it_is_for_users_who_may_see_events(db):
    assert Client().get("/api/openapi.json").status_code == 401
    answer = Client().get("/api/openapi.json", headers={"Authorization": "Bearer the-tests-token"})
    assert answer.json()["openapi"] == "3.1.0"


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_schemathesis_finds_nothing(serve, tmp_path):
    Instance.objects.register("reviewer-default", now=timezone.now(), idle_timeout=None)
    EngineStatus.objects.create(engine="process", asked=timezone.now())
    for number in range(20):
        record("container.lazy_started", instance="reviewer-default", data={"latency_ms": number})
    token = Token.objects.issue("fuzz", "operator")[1]
    with agents_file(tmp_path, **{"reviewer-default": "agent.py"}) as environment:
        server = serve(DORMOUSE_ENGINE="process", **environment)
        run_schemathesis(server, token, tmp_path)
    assert "Traceback" not in server.log.read_text()


def run_schemathesis(server, token, folder):
    command: list[str | Path] = [Path(sys.executable).with_name("schemathesis")]
    command += ["--config-file", PROJECT / "tests/config/schemathesis.toml", "run", f"{server.url}/api/openapi.json"]
    command += ["--header", f"Authorization: Bearer {token}", "--exclude-path-regex", NOT_FUZZED, "--no-color"]
    short = ["--max-examples", "20", "--generation-deterministic"]
    command += ["--max-examples", "500", "--generation-database", "none"] if LONG else short
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(PROJECT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
