"""The JSON body of a request of the API."""

import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest


class Invalid(Exception):
    """A request that says what it must not. It carries the HTTP status, and a sentence for a person."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def read_json(request: HttpRequest) -> dict[str, Any]:
    """Return the object that the body holds. Raises Invalid."""
    if request.content_type != "application/json":
        raise Invalid(415, "The body is sent as application/json.")
    body = request.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
    if len(body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise Invalid(413, f"The body may have at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes.")
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid(400, f"The body is no JSON: {error}.") from None
    if not isinstance(sent, dict):
        raise Invalid(422, "The body is no JSON object.")
    return sent
