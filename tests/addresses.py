"""Every address of Dormouse, made from the URL configuration."""

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, get_resolver


def patterns() -> dict[str, Any]:
    """Return the view of each pattern, as `api/instances/<str:name>`. These two are answered before Django's views."""
    return dict(_walk(get_resolver().url_patterns, "")) | {"events": None, "healthz": None}


def _walk(found: Any, before: str) -> Iterator[tuple[str, Any]]:
    for pattern in found:
        path = before + re.sub(r"\^?\(\?P<(\w+)>.*\)(.*)\$", r"<\1>\2", str(pattern.pattern))
        if isinstance(pattern, URLPattern):
            yield path, pattern.callback
        else:
            yield from _walk(pattern.url_patterns, path)
