"""DORMOUSE_KEEP: older events go, by themselves."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from events.keeping import prune_old_events
from events.log import record
from events.models import EventLog
from tests.servers import PROJECT, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def aged(*days):
    now = timezone.now()
    return [record("a.b", at=now - timedelta(days=n)).id for n in days]


def kept():
    return list(EventLog.objects.order_by("id").values_list("id", flat=True))


def test_events_older_than_the_setting_go(settings):
    settings.DORMOUSE_KEEP = timedelta(days=90)
    ids = aged(100, 91, 89, 1)
    prune_old_events()
    assert kept() == ids[2:]


def test_a_web_process_prunes_when_it_starts(serve):
    ids = aged(100, 1)
    serve(DORMOUSE_KEEP="90d", DORMOUSE_SUPERVISOR="embedded", DORMOUSE_ENGINE="docker", DOCKER_HOST="unix:///nowhere")
    wait_for(lambda: ids[0] not in kept())
    assert ids[1] in kept()


@pytest.mark.parametrize("value", ["90", "ninety days", "-1d", "0.5d"])
def test_a_value_that_is_no_age_is_refused(value):
    environment = os.environ | {"DORMOUSE_KEEP": value}
    command = [sys.executable, "manage.py", "check"]
    ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode
    assert "DORMOUSE_KEEP: " in ended.stderr
