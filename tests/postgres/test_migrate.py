"""A migrate beside a backup. A web process migrates whenever it is started by the unit or the image."""

MIGRATE = "from django.core.management import call_command\ncall_command('migrate', verbosity=0)"


def test_a_migrate_does_not_wait_for_a_backup_that_reads_the_log(site):
    """Else all others would wait behind it for as long as `pg_dump` takes."""
    with site.cluster.connected(site.database) as backup, backup.transaction():
        backup.execute("SELECT 1 FROM event_log")
        site.run(MIGRATE, query="?options=-c%20lock_timeout%3D10s").end()  # an error if it waits for a lock
    triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'event_log'::regclass ORDER BY tgname"
    assert site.ask(triggers) == ["event_log_no_delete", "event_log_no_truncate", "event_log_no_update"]
