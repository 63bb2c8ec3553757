"""The alerts, the dashboard and the queries of the docs, with Debian's Prometheus."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import httpx
import pytest

from events.counts import kind_of
from events.models import EventLog
from lifecycle.engines.process.engine import ProcessEngine
from tests.conftest import need
from tests.servers import PROJECT, Server, database_url, free_port, wait_for

RULES = PROJECT / "deploy/prometheus/rules.yml"
DASHBOARD = PROJECT / "deploy/prometheus/grafana-dashboard.json"
#: As docs/monitoring.md says, but faster.
CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: dormouse
    authorization: {{credentials_file: {token}}}
    static_configs:
      - targets: {targets}
"""
LONG = "DORMOUSE_LONG" in os.environ
KILLS = 20 if LONG else 1


@pytest.fixture(autouse=True)
def _prometheus_is_there():
    need("prometheus", shutil.which("prometheus"), "apt-get install prometheus")


def promtool(*arguments):
    run = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_each_alert_fires_on_what_it_names_and_on_nothing_else(tmp_path):
    promtool("check", "rules", str(RULES))
    tests = tmp_path / "tests.yml"
    tests.write_text((PROJECT / "tests/deploy/prometheus_rules_test.yml").read_text().replace("RULES", str(RULES)))
    promtool("test", "rules", str(tests))


def expressions():
    """Return the queries of the dashboard and of the docs."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"].replace("$__rate_interval", "1m") for panel in panels for target in panel["targets"]]
    section = (PROJECT / "docs/monitoring.md").read_text().partition("### Queries")[2].partition("\n## ")[0]
    return found + re.findall(r"\| `(.*)` \|$", section, re.MULTILINE)


class Prometheus:
    """Debian's Prometheus, which scrapes `targets`."""

    def __init__(self, folder, targets):
        (folder / "token").write_text(Server.TOKEN)
        configuration = folder / "prometheus.yml"
        values = {"rules": RULES, "token": folder / "token", "targets": json.dumps(targets)}
        configuration.write_text(CONFIGURATION.format(**values))
        promtool("check", "config", str(configuration))
        self.url = f"http://127.0.0.1:{free_port()}"
        command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"]
        command.append(f"--web.listen-address={self.url.removeprefix('http://')}")
        with (folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, path, **query):
        try:
            answer = httpx.get(f"{self.url}/api/v1/{path}", params=query, timeout=10)
        except httpx.TransportError:
            return None
        return answer.json()["data"] if answer.status_code == 200 else None

    def values(self, query):
        """Return the values of a query by the values of its labels."""
        found = self.ask("query", query=query) or {"result": []}
        return {tuple(one["metric"].values()): float(one["value"][1]) for one in found["result"]}

    def firing(self):
        alerts = (self.ask("alerts") or {"alerts": []})["alerts"]
        return [(one["labels"]["alertname"], one["labels"].get("agent")) for one in alerts if one["state"] == "firing"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


@pytest.fixture
def agents(tmp_path):
    """The settings of a site with an agent that works for a moment, and one that fails."""
    port = free_port()
    command = json.dumps([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)])
    works = f"[works]\ncommand = {command}\nport = {port}\nidle-timeout = '1s'\n"
    (tmp_path / "agents.toml").write_text(f"{works}[fails]\ncommand = 'false'\nport = {free_port()}\n")
    yield {"DORMOUSE_AGENTS_FILE": str(tmp_path / "agents.toml"), "DORMOUSE_RUN_DIR": str(tmp_path / "run")}
    ProcessEngine(tmp_path / "agents.toml", tmp_path / "run").stop("works", 5)


@pytest.fixture
def supervisor(transactional_db, agents):
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {"DATABASE_URL": database_url()} | agents
    command = [sys.executable, "manage.py", "supervise", "--listen", address]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL)
    yield address
    process.kill()
    process.wait()


def dispatch(server, name):
    try:
        url = f"{server.url}/api/instances/{name}/proxy/"
        return httpx.get(url, headers=server.bearer, timeout=60).status_code
    except httpx.TransportError:  # it was killed
        return None


def in_log():
    """Return how many events of each type and agent the log has."""
    kinds = [kind_of(event) for event in EventLog.objects.all()]
    return Counter((kind["instance"], kind["type"]) for kind in kinds)


def kill_while_it_wakes(server, name):
    """Kill a web process at some moment of a wake or soon after, and start it again."""
    command = ["curl", "-s", "-H", f"Authorization: Bearer {server.TOKEN}", f"{server.url}/api/instances/{name}/proxy/"]
    waking = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    time.sleep(random.uniform(0, 0.5))
    server.kill()
    waking.wait()
    server.start().wait_until_up()


def agrees(prometheus):
    """Return whether Prometheus knows as many starts, failures and stops as the log has."""
    starts = prometheus.values("sum by (agent, outcome) (max by (agent, outcome, cause) (dormouse_agent_starts_total))")
    stops = prometheus.values("sum by (agent) (max by (agent, trigger) (dormouse_agent_stops_total))")
    log = in_log()
    return (
        starts.get(("works", "started")) == log["works", "container.lazy_started"]
        and starts.get(("works", "failed"), 0) == log["works", "container.lazy_start_failed"]
        and starts.get(("fails", "failed")) == log["fails", "container.lazy_start_failed"]
        and stops.get(("works",)) == log["works", "container.lazy_stopped"]
    )


@pytest.mark.slow
def test_a_real_prometheus_scrapes_alerts_and_agrees_with_the_log(serve, agents, supervisor, tmp_path):
    servers = [serve(**agents), serve(**agents)]
    targets = [server.url.removeprefix("http://") for server in servers]
    prometheus = Prometheus(tmp_path, [*targets, supervisor])
    try:
        wait_for(lambda: len(prometheus.values('up{job="dormouse"} == 1')) == 3, what="three targets")
        wait_for(lambda: prometheus.values('dormouse_agent_starts_total{agent="fails"}'), what="the agents")
        assert [dispatch(servers[0], "fails") for _ in range(3)] == [503] * 3
        for _ in range(KILLS):
            kill_while_it_wakes(servers[1], "works")
        wait_for(lambda: dispatch(servers[0], "works") == 200, what="the agent")
        wait_for(lambda: ("DormouseAgentFailsToStart", "fails") in prometheus.firing(), what="the alert")
        wait_for(lambda: in_log()["works", "container.lazy_stopped"], what="an idle stop")
        assert dispatch(servers[0], "works") == 200  # the start before may have been of the process that was killed
        wait_for(lambda: agrees(prometheus), what="the counts of the log")
        assert prometheus.values('dormouse_dispatches_total{agent="fails",status="503"}')
        for expression in expressions():
            assert prometheus.ask("query", query=expression) is not None, expression
        named = set(re.findall(r"\b(?:dormouse|process)_\w+", " ".join(expressions())))
        wait_for(lambda: not named - set(prometheus.ask("label/__name__/values")), what="everything that is asked for")
    finally:
        prometheus.stop()
