"""Every address of Dormouse, made from the URL configuration."""

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, get_resolver

IN_FRONT_OF_VIEWS = [
    "events",
    "healthz",
    "api/instances/<str:name>/dispatch",
    "api/instances/<str:name>/proxy/<path:path>",
]


def patterns() -> dict[str, Any]:
    """Return the view of each pattern, as `api/instances/<str:name>`. None: it is answered before Django's views."""
    return dict(_walk(get_resolver().url_patterns, "")) | dict.fromkeys(IN_FRONT_OF_VIEWS)


def _walk(found: Any, before: str) -> Iterator[tuple[str, Any]]:
    for pattern in found:
        path = before + re.sub(r"\^?\(\?P<(\w+)>.*\)(.*)\$", r"<\1>\2", str(pattern.pattern))
        if isinstance(pattern, URLPattern):
            yield path, pattern.callback
        else:
            yield from _walk(pattern.url_patterns, path)
