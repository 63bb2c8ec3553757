"""`manage.py backup` of a PostgreSQL database, restored into an empty one."""

import subprocess
from urllib.parse import urlparse

BACKUP = "from django.core.management import call_command\ncall_command('backup', {!r})"


def test_a_restored_backup_has_every_event(site, tmp_path):
    ids = [site.record() for _ in range(3)]
    path = tmp_path / "copy.dump"
    site.run(BACKUP.format(str(path))).end()
    assert path.read_bytes().startswith(b"PGDMP")
    assert path.stat().st_mode & 0o777 == 0o600
    restored = f"{site.database}_restored"
    with site.cluster.connected() as connection:
        connection.execute(f"CREATE DATABASE {restored}")
    url = site.cluster.url(restored)
    subprocess.run(["pg_restore", "--no-owner", "--dbname", url, str(path)], check=True, capture_output=True)
    with site.cluster.connected(urlparse(url).path[1:]) as connection:
        assert [row[0] for row in connection.execute("SELECT id FROM event_log ORDER BY id")] == ids
