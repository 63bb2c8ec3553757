#!/bin/sh
# Migrates the database, makes the user admin at the first start, and serves. The command of the image.
set -e
trap 'exit 143' TERM
# PostgreSQL may just be starting, too. If this container ended, Compose would take it for unhealthy and give up.
tries=30
until python manage.py migrate --verbosity 0; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || exit 1
    sleep 2
done
# With --tty it would show the password, and the log of a container is often kept and sent elsewhere.
python manage.py create_admin > /dev/null
exec python -m config.serve --bind 0.0.0.0 --port 8000
