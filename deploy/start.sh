#!/bin/sh
# Migrates the database, makes the user admin at the first start, and serves. The command of the image.
set -e
python manage.py migrate --verbosity 0
# With --tty it would show the password, and the log of a container is often kept and sent elsewhere.
python manage.py create_admin > /dev/null
exec python -m config.serve --bind 0.0.0.0 --port 8000
