"""The URLs that can be subscribed: what each reaches, and how it is shown without what lets one in."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from telling.subscriptions import persons
from telling.subscriptions.addresses import is_public

MAX_URL_CHARACTERS = 2000
MASK = "***"
#: A part of a path that is shown. Any other may be a secret: many services put one there.
HARMLESS = re.compile(r"[A-Za-z._-]{0,15}|v[0-9]{1,2}")


@dataclass(frozen=True)
class Target:
    """A URL that can be subscribed, and what it reaches."""

    url: str
    is_program: bool
    #: The URL without its credentials.
    shown: str


def parse(url: str) -> Target:
    """Return what `url` reaches. Raises ValueError, with a text that holds no credentials."""
    if len(url) > MAX_URL_CHARACTERS or not url.isprintable() or " " in url:
        raise ValueError(f"a URL has at most {MAX_URL_CHARACTERS} characters, and no blanks")
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return Target(url, True, _check_program(url))
    return Target(url, False, persons.check(url, scheme))


def _check_program(url: str) -> str:
    """Return how the URL of a program is shown. Raises ValueError."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("the URL cannot be read: it must be https://HOST/PATH") from None
    if not host or port == 0 or parts.fragment:
        raise ValueError("the URL must be https://HOST/PATH, without a fragment (#...)")
    if not settings.DORMOUSE_WEBHOOK_PRIVATE:
        if parts.scheme != "https":
            raise ValueError("plain http is only for private networks: use https, or set DORMOUSE_WEBHOOK_PRIVATE=true")
        if _is_address(host) and not is_public(host):
            raise ValueError(f"{host} is not a public address, and DORMOUSE_WEBHOOK_PRIVATE is not true")
    return _mask(parts)


def _mask(parts: SplitResult) -> str:
    place = parts.netloc.rpartition("@")[2]
    user = f"{MASK}@" if "@" in parts.netloc else ""
    path = "/".join(part if HARMLESS.fullmatch(part) else MASK for part in parts.path.split("/"))
    return f"{parts.scheme}://{user}{place}{path}" + (f"?{MASK}" if parts.query else "")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
