from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import escape
from pytest_django.asserts import assertContains

from lifecycle.models import EngineStatus, Instance, Lease, Worker

ADDRESS = "/admin/lifecycle/instance/"


@pytest.fixture(autouse=True)
def one_of_each(db: None) -> None:
    now = timezone.now()
    worker = Worker.objects.create(kind="web", pid=1, started=now)
    instance = Instance.objects.create(name="reviewer-default", since=now)
    Lease.objects.create(instance=instance, worker=worker.id, since=now)
    EngineStatus.objects.create(engine="process", asked=now)


@pytest.mark.parametrize("model", [Instance, Worker, Lease, EngineStatus])
def test_each_can_be_looked_at_and_not_touched(admin_client: Client, model):
    address = f"/admin/lifecycle/{model._meta.model_name}/"
    pk = str(model.objects.get().pk)
    assertContains(admin_client.get(address), pk)
    assert admin_client.get(f"{address}{pk}/change/").status_code == 200
    for path in ("add/", f"{pk}/change/", f"{pk}/delete/"):
        assert admin_client.post(address + path, {"post": "yes"}).status_code == 403
    assert model.objects.count() == 1


def test_a_row_reads_like_the_page(admin_client: Client):
    Instance.objects.update(
        since=datetime(2026, 11, 23, 18, 55, 30, tzinfo=UTC), failure={"cause": "exited", "error": "no Schlüssel <b>"}
    )
    assertContains(admin_client.get(ADDRESS), "2026-11-23 18:55:30 UTC", count=1)
    page = admin_client.get(f"{ADDRESS}reviewer-default/change/")
    assertContains(page, "2026-11-23 18:55:30 UTC", count=1)
    # In the order of the keys in which PostgreSQL keeps them.
    shown = escape('{\n  "cause": "exited",\n  "error": "no Schlüssel <b>"\n}')
    assertContains(page, f'<pre class="data">{shown}</pre>', count=1)
    assertContains(page, 'href="/agents/?instance=reviewer-default#activity-heading"', count=1)


def test_the_list_is_sorted_by_its_times(admin_client: Client):
    now = timezone.now()
    Instance.objects.create(name="earlier", since=now - timedelta(hours=1))
    page = admin_client.get(ADDRESS, {"o": "2"}).content.decode()
    assert page.index(">earlier</a>") < page.index(">reviewer-default</a>")
