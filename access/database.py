"""Whether the database can be used, and the answer to a request if it cannot."""

import functools
import logging

from django.db import DatabaseError, DataError, IntegrityError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

from access.problems import ProblemResponse

logger = logging.getLogger(__name__)

NOT_MIGRATED = "The database is not migrated. Run: manage.py migrate"


def is_migrated() -> bool:
    """Return whether the database has every migration of this code. This is one query. Raises DatabaseError."""
    return _latest_migrations() <= set(MigrationRecorder(connection).applied_migrations())


@functools.cache
def _latest_migrations() -> set[tuple[str, str]]:
    """Return the app and the name of the latest migrations of this code. They need no database."""
    return set(MigrationLoader(None).graph.leaf_nodes())


class DatabaseErrorMiddleware(MiddlewareMixin):
    """Django middleware that answers 503 if a view fails because the database does."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the answer, or None for another error."""
        return answer_to(request, error)


def answer_to(request: HttpRequest, error: Exception) -> HttpResponse | None:
    """Return a problem below `/api/`, else a page. Errors of the data are errors of ours, and are not answered."""
    if not isinstance(error, DatabaseError) or isinstance(error, DataError | IntegrityError):
        return None
    logger.error("%s was not answered, because the database cannot be used: %s", request.path, error)
    if request.path_info.startswith("/api/") or request.path_info == "/metrics":
        return ProblemResponse(503, "The database cannot be used at the moment.")
    # Without the request, because to know its user would ask the database again.
    return HttpResponse(render_to_string("503.html"), status=503)
