"""What a web process says at its start: whether programs can get in."""

import logging
import threading

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from access.models import Token

logger = logging.getLogger(__name__)

WITHOUT_TOKENS = (
    "Programs cannot get in, because there is no token. "
    "Make one: manage.py create_token NAME --role viewer|dispatcher|operator"
)


def say_who_gets_in() -> None:
    """Log whether there is a token, from a thread, because the database may be slow or not there yet."""
    threading.Thread(target=_say, name="first run", daemon=True).start()


def _say() -> None:
    try:
        now = timezone.now()
        count = sum(token.is_valid(now) for token in Token.objects.all()) + bool(settings.DORMOUSE_API_TOKEN)
    except DatabaseError:
        return  # the supervisor and /readyz say so
    finally:
        connection.close()
    logger.info("%s", f"Programs get in with their tokens ({count})." if count else WITHOUT_TOKENS)
