import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.asserts import assertContains

from lifecycle.models import EngineStatus, Instance, Lease, Worker


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
