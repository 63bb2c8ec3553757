"""Django's debug mode is refused beyond loopback, and shows no secret."""

import os
import subprocess
import sys

import pytest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from tests.servers import PROJECT


@pytest.mark.server
@pytest.mark.parametrize(("hosts", "code"), [("localhost", 0), ("dormouse.example.org", 1), ("*", 1)])
def test_debug_mode_is_only_for_loopback(hosts, code):
    environment = os.environ | {
        "DJANGO_DEBUG": "true",
        "DJANGO_ALLOWED_HOSTS": hosts,
        "DJANGO_SECRET_KEY": "x" * 60,
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    command = [sys.executable, "-c", "from django.conf import settings; settings.DEBUG"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    assert ("is only for loopback" in done.stderr) is bool(code)


def test_a_page_of_the_debug_mode_shows_no_secret(settings):
    settings.DORMOUSE_OTHER = {"default": {"PASSWORD": "hunter2", "HOST": "db"}}
    settings.DATABASE_URL = "postgres://dormouse:hunter2@db/dormouse"
    settings.DORMOUSE_API_TOKEN = "hunter2"
    settings.DEBUG = True
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        page = ExceptionReporter(RequestFactory().get("/"), *sys.exc_info()).get_traceback_html()
    shown = page.partition('id="settings-info"')[2]
    assert "DORMOUSE_API_TOKEN" in shown
    assert "hunter2" not in shown
