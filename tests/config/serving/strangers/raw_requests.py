"""Raw requests of strangers, each with what it may get. None may get a second answer.

Sources: RFC 9112 (framing, 6 and 7; obs-fold, 5.2; the request line, 3), and the attacks that are known by the names
CL.TE, TE.CL, CL.0 and TE.TE.
"""

from dataclasses import dataclass

#: A request in the body of another one. Its answer would be a second one.
HIDDEN = b"PATCH /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HOST = b"Host: 127.0.0.1\r\n"
REFUSED = frozenset({400})
#: The connection is closed without an answer.
CLOSED = 0


@dataclass(frozen=True)
class Case:
    """A request, and the statuses of which one must be the last answer."""

    name: str
    sent: bytes
    statuses: frozenset[int] = REFUSED


def post(name: str, headers: bytes, body: bytes = b"", statuses: frozenset[int] = REFUSED) -> Case:
    return Case(name, b"POST /healthz HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body, statuses)


def get(name: str, headers: bytes = b"", *, target: bytes = b"/healthz", statuses: frozenset[int] = REFUSED) -> Case:
    return Case(name, b"GET " + target + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n", statuses)


def of(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


CHUNKED = b"Transfer-Encoding: chunked\r\n"
NOTHING = b"0\r\n\r\n"
#: Two readings of the length: whoever believes the other one than we do would see HIDDEN as a request.
CONTRADICTIONS = [
    post("CL.TE", b"Content-Length: 6\r\n" + CHUNKED, NOTHING + b"X" + HIDDEN),
    post("TE.CL", CHUNKED + b"Content-Length: 3\r\n", b"1\r\nZ\r\nQ" + HIDDEN),
    post("TE with a length of 0", CHUNKED + b"Content-Length: 0\r\n", NOTHING + HIDDEN),
    post("two lengths", b"Content-Length: 0\r\nContent-Length: 50\r\n", HIDDEN),
    post("two lengths, the longer first", b"Content-Length: 50\r\nContent-Length: 0\r\n", HIDDEN),
    post("two lengths in one field", b"Content-Length: 0, 50\r\n", HIDDEN),
    post("a length of two words", b"Content-Length: 0 50\r\n", HIDDEN),
    post("a length with a sign", b"Content-Length: +0\r\n", HIDDEN),
    post("a negative length", b"Content-Length: -1\r\n", HIDDEN),
    post("a length in hexadecimal", b"Content-Length: 0x10\r\n", HIDDEN),
    post("a length with an underscore", b"Content-Length: 1_0\r\n", HIDDEN),
    post("a length in other digits", "Content-Length: ١\r\n".encode(), HIDDEN),
    post("a length that is a word", b"Content-Length: many\r\n", HIDDEN),
    post("a length with a fraction", b"Content-Length: 1.0\r\n", HIDDEN),
    post("an empty length", b"Content-Length: \r\n", HIDDEN),
    post("a length of 5,000 digits", b"Content-Length: " + b"9" * 5000 + b"\r\n", HIDDEN, of(400, 413)),
    post("a blank before the colon of the length", b"Content-Length : 50\r\n", HIDDEN),
    post("a tab before the colon of the length", b"Content-Length\t: 50\r\n", HIDDEN),
    post("NUL in the length's name", b"Content-\0Length: 50\r\n", HIDDEN),
    post("NUL in the length", b"Content-Length: 5\x000\r\n", HIDDEN),
    post("a vertical tab in the length", b"Content-Length: \x0b50\r\n", HIDDEN),
    post("a carriage return in a header", b"X: a\rContent-Length: 50\r\n", HIDDEN),
    post("a length after a bare line feed", b"X: a\nContent-Length: 50\r\n", HIDDEN),
    post("chunked by a bare line feed", b"X: a\nTransfer-Encoding: chunked\r\n", HIDDEN),
    post("an unknown coding", b"Transfer-Encoding: xchunked\r\n", HIDDEN),
    post("chunked twice", CHUNKED + CHUNKED, NOTHING + HIDDEN),
    post("chunked, then another coding", b"Transfer-Encoding: chunked, gzip\r\n", HIDDEN),
    post("chunked, then identity", CHUNKED + b"Transfer-Encoding: identity\r\n", NOTHING + HIDDEN),
    post("identity, then chunked", b"Transfer-Encoding: identity\r\n" + CHUNKED, NOTHING + HIDDEN),
    post("chunked in quotes", b'Transfer-Encoding: "chunked"\r\n', HIDDEN),
    post("chunked with a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n", NOTHING + HIDDEN),
    post("chunked with NUL", b"Transfer-Encoding: chunked\0\r\n", NOTHING + HIDDEN),
    post("chunked and a comma", b"Transfer-Encoding: chunked,\r\n", NOTHING + HIDDEN),
    post("a blank before the colon of the coding", b"Transfer-Encoding : chunked\r\n", HIDDEN),
    post("a length that goes on in a folded line", b"Content-Length: 5\r\n\t0\r\n", HIDDEN),
    # Refused, or one line as RFC 9112 allows: then the body is shorter than its length of 50, and never complete.
    post("a folded length", b"Content-Length:\r\n 50\r\n", HIDDEN, of(400, CLOSED)),
    post("a folded host", b" Content-Length: 50\r\nContent-Length: 50\r\n", HIDDEN, of(400, CLOSED)),
]
CHUNKS = [
    post("a chunk's size with a sign", CHUNKED, b"+0\r\n\r\n" + HIDDEN),
    post("a chunk's size with a prefix", CHUNKED, b"0x0\r\n\r\n" + HIDDEN),
    post("a chunk's size with an underscore", CHUNKED, b"0_0\r\n\r\n" + HIDDEN),
    post("a negative chunk", CHUNKED, b"-1\r\n\r\n" + HIDDEN),
    post("a chunk without a size", CHUNKED, b"\r\n\r\n" + HIDDEN),
    post("a chunk's size with a blank before it", CHUNKED, b" 0\r\n\r\n" + HIDDEN),
    post("a chunk that ends with a bare line feed", CHUNKED, b"0\n\n" + HIDDEN),
    post("a chunk that is longer than its size", CHUNKED, b"1\r\nab\r\n0\r\n\r\n" + HIDDEN),
    # Refused, or not complete when the caller has finished sending.
    post("a chunk of 2^64 bytes", CHUNKED, b"10000000000000000\r\na\r\n", of(400, 413, CLOSED)),
    post("a chunk's size of 5,000 digits", CHUNKED, b"1" + b"0" * 5000 + b"\r\n\r\n" + HIDDEN),
    post("a chunk's extension with NUL", CHUNKED, b"0;a=\0\r\n\r\n" + HIDDEN),
    post("an endless extension of a chunk", CHUNKED, b"1;" + b"a" * 100_000 + b"\r\nx\r\n0\r\n\r\n", of(400, 405)),
    post("trailers that say a length", CHUNKED, b"0\r\nContent-Length: 50\r\n\r\n", of(400, 405)),
    post("endless trailers", CHUNKED, b"0\r\n" + b"X: x\r\n" * 20_000 + b"\r\n", of(400, 431)),
]
#: A target must not lead to a file, whatever it says.
TARGETS = [
    get(f"target {target.decode('latin-1')!r}", target=target, statuses=of(302, 400, 404))
    for target in [
        b"/../etc/passwd",
        b"/..%2f..%2fetc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/%252e%252e/etc/passwd",
        b"/static/../config/settings.py",
        b"/static/..%2f..%2fvar/db.sqlite3",
        b"/static/%2e%2e/%2e%2e/var/db.sqlite3",
        b"/static/..%5c..%5cvar/db.sqlite3",
        b"/static//etc/passwd",
        b"/static/%00",
        b"/static/agents_ui/stream.js%00.css",
        b"//evil.example/agents/",
        b"/%0d%0aX:%20y",
        b"/%ff",
        b"/" + b"a" * 10_000,
        b"http://evil.example/agents/",
        b"http://127.0.0.1/static/../../etc/passwd",
        b"\\..\\etc",
    ]
]
LINES = [
    Case("no version", b"GET /healthz\r\n" + HOST + b"\r\n"),
    Case("an unknown version", b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n", of(400, 505)),
    Case("a version without a number", b"GET /healthz HTTP/x\r\n" + HOST + b"\r\n", of(400, 505)),
    Case("two targets", b"GET /healthz /agents/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    Case("no target", b"GET  HTTP/1.1\r\n" + HOST + b"\r\n", of(400, 404)),
    Case("a method with NUL", b"G\0T /healthz HTTP/1.1\r\n" + HOST + b"\r\n", of(400, 405)),
    Case("a method of 100,000 letters", b"G" * 100_000 + b" /healthz HTTP/1.1\r\n" + HOST + b"\r\n"),
    Case("a target of 100,000 letters", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", of(400, 414)),
    Case("CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", of(400, 404, 405)),
    Case("OPTIONS of all", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", of(302, 400, 404, 405)),
    Case("TRACE", b"TRACE /agents/ HTTP/1.1\r\n" + HOST + b"X-Secret: s3cr3t\r\n\r\n", of(302, 405)),
    Case("TLS", bytes.fromhex("16030100c8010000c40303") + b"\0" * 150 + b"\r\n\r\n"),
    Case("HTTP/2 without an upgrade", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", of(400, 505)),
    Case("only NUL", b"\0" * 1000 + b"\r\n\r\n"),
    Case("a header without a colon", b"GET /healthz HTTP/1.1\r\n" + HOST + b"nothing\r\n\r\n"),
    Case("a header without a name", b"GET /healthz HTTP/1.1\r\n" + HOST + b": x\r\n\r\n"),
    Case("a header of 100,000 letters", b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", of(400, 431)),
    Case("10,000 headers", b"GET /healthz HTTP/1.1\r\n" + b"X: x\r\n" * 10_000 + b"\r\n", of(400, 431)),
]
HOSTS = [
    Case(f"host {host.decode('latin-1')!r}", b"GET /agents/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    for host in [
        b"evil.example",
        b"127.0.0.1.evil.example",
        b"127.0.0.1@evil.example",
        b"127.0.0.1:80:80",
        b"127.0.0.1:x",
        b"127.0.0.1 evil.example",
        b"127.0.0.1/evil",
        b"[::1",
        b"a\xff",
        b"127.0.0.1\0",
    ]
] + [
    Case("two hosts", b"GET /agents/ HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"),
    Case("a forwarded host", b"GET /agents/ HTTP/1.1\r\n" + HOST + b"X-Forwarded-Host: evil.example\r\n\r\n", of(302)),
]
UPGRADE = b"Connection: Upgrade\r\nUpgrade: "
WEBSOCKET = UPGRADE + b"websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: "
UPGRADES = [
    get(
        "an upgrade to HTTP/2",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n",
        statuses=of(200),
    ),
    get("an upgrade to nothing", UPGRADE + b"\r\n", statuses=of(200)),
    get("a WebSocket without a key", UPGRADE + b"websocket\r\n"),
    get("a WebSocket of an unknown version", WEBSOCKET + b"99\r\n"),
    get("a WebSocket", WEBSOCKET + b"13\r\n", statuses=of(403)),
]
CASES = [*CONTRADICTIONS, *CHUNKS, *TARGETS, *LINES, *HOSTS, *UPGRADES]
