"""Which headers pass to the agent, and which pass to the caller.

Source: RFC 9110, section 7.6, and RFC 7239.
"""

import re
import socket
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

RawHeaders = Iterable[tuple[bytes, bytes]]

#: Headers about one connection, besides those that `Connection` names.
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
#: What is meant for Dormouse, and what Dormouse says itself.
NOT_TO_AGENT = {b"host", b"cookie", b"dormouse-token", b"x-csrftoken", b"expect"}
FORWARDED = re.compile(rb"forwarded|x-forwarded-.*")
#: What an agent may not say on our origin, and what Dormouse says itself.
NOT_TO_CALLER = re.compile(
    rb"set-cookie2?|dormouse-.*|x-accel-.*|x-sendfile|clear-site-data|alt-svc|strict-transport-security"
    rb"|access-control-.*|refresh|content-security-policy|cache-control|x-content-type-options"
)
#: What every answer of an agent has. It comes from our origin: a browser may show it, but it may run nothing and read
#: nothing there. Proxies pass it on as it comes.
ANSWER_HEADERS = [
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
DEFAULT_PORTS = {"http": 80, "https": 443}


class LeadsElsewhere(Exception):
    """A `Location` leads to our own origin, but not to the agent; or it cannot be read, so that is not known."""


@dataclass(frozen=True)
class Hop:
    """The way of one request through Dormouse: its caller, the address that the caller used, and the agent."""

    #: The address of the caller, or of the proxy before us.
    client: str
    #: Whether `client` is a proxy whose forwarding headers are believed.
    is_trusted: bool
    #: The scheme and the host with which the caller reached Dormouse.
    scheme: str
    host: str
    #: The path of ours that is the root of the agent.
    prefix: str
    #: Whether `Authorization` is for the agent.
    passes_authorization: bool

    def to_agent(self, headers: RawHeaders) -> list[tuple[str, str]]:
        """Return the headers for the agent. `Host` is left to the client."""
        dropped = HOP_BY_HOP | NOT_TO_AGENT | _named_by_connection(headers)
        if not self.passes_authorization:
            dropped = dropped | {b"authorization"}
        passed: list[tuple[str, str]] = []
        forwarded: dict[bytes, list[str]] = {}
        for name, value in headers:
            if FORWARDED.fullmatch(name):
                forwarded.setdefault(name, []).append(_decode(value))
            elif name not in dropped and b"_" not in name:
                passed.append((_decode(name), _decode(value)))
        believed = {name: ", ".join(values) for name, values in forwarded.items()} if self.is_trusted else {}
        return passed + self._forwarding(believed)

    def _forwarding(self, believed: dict[bytes, str]) -> list[tuple[str, str]]:
        """Return what the agent is told of the caller. Two headers list all proxies, ours the last."""
        node = f'"[{self.client}]"' if ":" in self.client else self.client
        listed = {"Forwarded": f'for={node};proto={self.scheme};host="{self.host}"', "X-Forwarded-For": self.client}
        before = {name: believed.get(name.lower().encode(), "") for name in listed}
        prefix = believed.get(b"x-forwarded-prefix", "").rstrip("/") + self.prefix
        return [
            *((name, f"{before[name]}, {value}" if before[name] else value) for name, value in listed.items()),
            ("X-Forwarded-Proto", self.scheme),
            ("X-Forwarded-Host", self.host),
            ("X-Forwarded-Prefix", prefix),
        ]

    def to_caller(self, headers: RawHeaders, agent: str) -> list[tuple[bytes, bytes]]:
        """Return the headers for the caller. `agent` is the URL that was asked. Raises LeadsElsewhere."""
        dropped = HOP_BY_HOP | _named_by_connection(headers)
        passed = []
        for given, value in headers:
            name = given.lower()
            if name in dropped or NOT_TO_CALLER.fullmatch(name):
                continue
            is_place = name in (b"location", b"content-location")
            passed.append((name, self._locate(value, agent) if is_place else value))
        return passed + ANSWER_HEADERS

    def _locate(self, value: bytes, agent: str) -> bytes:
        """Return a `Location` of the agent as the caller must see it. Raises LeadsElsewhere.

        It is read as browsers read it, because a client repeats its request and its token there.
        """
        written = re.sub(r"[\t\r\n]", "", value.decode("utf-8", "surrogateescape").strip("\0 \t\r\n"))
        try:
            target = urlsplit(urljoin(agent, written.replace("\\", "/")))
            port, host = target.port, _canonical(target.hostname or "")
        except ValueError as error:
            raise LeadsElsewhere from error
        if target.scheme not in DEFAULT_PORTS:
            return value
        if not target.hostname:
            raise LeadsElsewhere
        origin = host, port or DEFAULT_PORTS[target.scheme]
        at_agent, path = urlsplit(agent), _without_dots(target.path)
        if (target.scheme, *origin) == (at_agent.scheme, _canonical(at_agent.hostname or ""), at_agent.port or 80):
            path = self.prefix + path
        elif origin not in self._own_origins():
            return value
        elif not path.startswith(f"{self.prefix}/"):
            raise LeadsElsewhere
        query = f"?{target.query}" if target.query else ""
        fragment = f"#{target.fragment}" if target.fragment else ""
        return (path + query + fragment).encode("utf-8", "surrogateescape")

    def _own_origins(self) -> set[tuple[str, int]]:
        """Return the host and the port of Dormouse, as the caller sees it; by default the port of either scheme."""
        own = urlsplit(f"//{self.host}")
        try:
            port = own.port
        except ValueError:  # there is no such port, so the caller's `Host` is wrong
            port = None
        ports = {port} if port else set(DEFAULT_PORTS.values())
        return {(_canonical(own.hostname or ""), port) for port in ports}


def _decode(value: bytes) -> str:
    """Return a header as a text that the client encodes to the same bytes, if they are UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _named_by_connection(headers: RawHeaders) -> set[bytes]:
    """Return the names that `Connection` names, in small letters."""
    values = [value for name, value in headers if name.lower() == b"connection"]
    return {name.strip().lower() for value in values for name in value.split(b",")}


def _canonical(host: str) -> str:
    """Return a host as browsers write it: they know `127.1`, `%6c` and full-width letters.

    Raises ValueError if it has NUL in it, or bytes that are no UTF-8.
    """
    host = unicodedata.normalize("NFKC", unquote(host)).lower().rstrip(".")
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return host


def _without_dots(path: str) -> str:
    """Return an absolute path without `.` and `..`, also if they are written with `%2e`."""
    kept: list[str] = []
    parts = path.split("/")[1:] or [""]
    for position, part in enumerate(parts):
        plain = part.lower().replace("%2e", ".")
        if plain == ".." and kept:
            kept.pop()
        if plain not in (".", ".."):
            kept.append(part)
        elif position == len(parts) - 1:
            kept.append("")
    return "/" + "/".join(kept)
