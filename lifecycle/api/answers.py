"""The answers of the API to what cannot be done."""

from django.conf import settings

from access.problems import ProblemResponse
from lifecycle.engines import HOW_TO_TAKE_PART
from lifecycle.exceptions import LifecycleError, UnknownInstance


def problem_of(error: LifecycleError) -> ProblemResponse:
    """Return the answer for an error."""
    return ProblemResponse(error.status, str(error), code=error.code, **error.members())


def database_problem() -> ProblemResponse:
    """Return the answer if the database cannot be used."""
    return ProblemResponse(503, "The database cannot be used at the moment.", code="database")


def unknown(name: str) -> UnknownInstance:
    """Return the error for a name that no instance has."""
    return UnknownInstance(name, HOW_TO_TAKE_PART[settings.DORMOUSE_ENGINE])


def can_be_a_name(name: str) -> bool:
    """Return False for a text with NUL, because PostgreSQL refuses a query that contains it."""
    return "\0" not in name
