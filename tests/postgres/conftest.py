"""Everything here needs PostgreSQL, and is asked of real processes: Django's own connection here is to SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.postgres.cluster import Cluster, programs
from tests.postgres.site import Command, Site

MIGRATED = "migrated"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("postgres")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    need("postgres", programs(), "apt-get install postgresql")
    cluster = Cluster().start()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="session")
def migrated(cluster: Cluster) -> Cluster:
    """Start a cluster with a migrated database that tests copy."""
    with cluster.connected() as connection:
        connection.execute(f"CREATE DATABASE {MIGRATED}")
    migrate = "from django.core.management import call_command\ncall_command('migrate', verbosity=0)"
    Command(migrate, {"DATABASE_URL": cluster.url(MIGRATED)}).end()
    return cluster


@pytest.fixture
def site(migrated: Cluster, tmp_path: Path) -> Iterator[Site]:
    database = f"site_{tmp_path.stat().st_ino}"
    with migrated.connected() as connection:
        connection.execute(f"CREATE DATABASE {database} TEMPLATE {MIGRATED}")
    site = Site(migrated, database, tmp_path)
    yield site
    site.stop()
