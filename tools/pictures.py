"""Makes the pictures of the docs: `make pictures`, with Chromium installed. A real server, with a morning's events."""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

folder = Path(tempfile.mkdtemp())
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
    "DORMOUSE_SUPERVISOR": "external",
}

import django  # noqa: E402

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

from events.log import record  # noqa: E402
from lifecycle.models import EngineStatus, Instance  # noqa: E402
from lifecycle.state_machine import State  # noqa: E402
from tests.servers import PROJECT, Server  # noqa: E402

PICTURES = {
    "agents-light": {"viewport": {"width": 1100, "height": 760}, "color_scheme": "light"},
    "agents-dark": {"viewport": {"width": 1100, "height": 760}, "color_scheme": "dark"},
    "agents-phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
    "agents-failure": {"viewport": {"width": 1100, "height": 760}, "color_scheme": "light"},
}
OUTPUT = "loading the model…\nerror: checkpoint is truncated (expected 4831838208 bytes, got 1207959552)\n"


def seed() -> None:
    """Events of the last hour, and three instances as they leave them."""
    now = datetime.now(UTC)

    def happened(minutes_ago: float, type: str, instance: str, **data: object) -> None:
        at = now - timedelta(minutes=minutes_ago)
        record(type, instance=instance, data={"instance": instance, **data}, at=at)

    happened(58, "container.lazy_started", "designer-default", latency_ms=1240, run=11)
    happened(41, "container.lazy_stopped", "designer-default", idle_seconds=900, run=11)
    happened(33, "deploy.finished", "reviewer-default", version="1.4.2")
    happened(31, "container.lazy_started", "reviewer-default", latency_ms=412, run=6)
    happened(14, "container.lazy_stopped", "reviewer-default", idle_seconds=900, run=6)
    failure = {"error": "exited with code 1 before it was ready", "cause": "exited", "exit_code": 1}
    happened(9, "container.lazy_start_failed", "planner-default", run=3, log_tail=OUTPUT, **failure)
    happened(2, "container.lazy_started", "reviewer-default", latency_ms=287, run=7)
    idle = {"idle_timeout": timedelta(minutes=15)}
    Instance.objects.create(name="designer-default", since=now - timedelta(minutes=41), run=11, **idle)
    failed = {"run": 3, "at": (now - timedelta(minutes=9)).isoformat(), **failure}
    Instance.objects.create(name="planner-default", since=now - timedelta(minutes=9), run=3, failure=failed, **idle)
    ready = {"state": State.READY, "probed": True, "last_used": now - timedelta(minutes=1)}
    Instance.objects.create(name="reviewer-default", since=now - timedelta(minutes=2), run=7, **ready, **idle)
    EngineStatus.objects.create(engine="docker", asked=now, answered=now)


def take(browser: Browser, server: Server) -> None:
    for name, look in PICTURES.items():
        page = browser.new_context(**look).new_page()  # type: ignore[arg-type]
        page.goto(f"{server.url}/agents/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill("admin")
        page.keyboard.press("Enter")
        page.get_by_text("Live", exact=True).wait_for()
        if name == "agents-failure":
            page.locator(".row summary").click()
            page.locator("#activity-heading").scroll_into_view_if_needed()
        page.screenshot(path=PROJECT / "docs" / f"{name}.png")
        print(f"docs/{name}.png")


def main() -> None:
    call_command("migrate", verbosity=0)
    User.objects.create_superuser("admin", password="admin")
    seed()
    server = Server({"DORMOUSE_ENGINE": "docker"}, log=folder / "server.log").wait_until_up()
    try:
        with sync_playwright() as playwright:
            take(playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"]), server)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
