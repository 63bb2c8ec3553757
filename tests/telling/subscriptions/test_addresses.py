"""Which addresses are public, and which URLs can be subscribed."""

import pytest

from telling.subscriptions.addresses import is_public
from telling.subscriptions.targets import parse

DISCORD = "4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *(
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1%eth0",
            "fd00::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
        ),
        *(
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
        ),
    ],
)
def test_an_address_that_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::808:808"]
)
def test_a_public_address(address):
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "scheme must be"),
        ("hook.example.org", "scheme must be"),
        ("ftp://example.org/", "scheme must be"),
        ("file:///etc/passwd", "scheme must be"),
        ("https://", "HOST"),
        ("https:///path", "HOST"),
        ("https://example.org:99999/", "cannot be read"),
        ("https://example.org:0/", "HOST"),
        ("https://[::1/", "cannot be read"),
        ("https://example.org/#part", "fragment"),
        ("https://example.org/a b", "no blanks"),
        ("https://example.org/\x1b[2J", "no blanks"),
        ("https://example.org/" + "a" * 2000, "at most 2000"),
        ("http://example.org/", "plain http"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://[::1]/", "not a public address"),
        ("json://example.org/", "private networks"),
        ("syslog://", "private networks"),
        ("slack://nonsense", "cannot be read"),
        (f"discord://{DISCORD}?template=/etc/passwd", "template"),
        (f"discord://{DISCORD}?Template=http://127.0.0.1/", "template"),
        ("mailtos://u:p@example.org/?pgppub=/etc/passwd", "pgppub"),
        ("mailtos://u:p@example.org/?pgpprv=http://127.0.0.1/", "pgpprv"),
        ("mailtos://u:p@example.org/?wkd=yes", "wkd"),
    ],
)
def test_a_url_that_cannot_be_subscribed(settings, url, reason):
    settings.DORMOUSE_WEBHOOK_PRIVATE = False
    with pytest.raises(ValueError, match=reason):
        parse(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org", "https://example.org"),
        ("https://example.org:8443/hooks/dormouse", "https://example.org:8443/hooks/dormouse"),
        ("https://user:s3cret@example.org/v1/in", "https://***@example.org/v1/in"),
        ("https://example.org/in?token=s3cret", "https://example.org/in?***"),
        ("https://example.org/services/T0001/B0002/s3crets3crets3cret", "https://example.org/services/***/***/***"),
        ("mailtos://user:s3cret@example.org/?to=ops@example.org", "mailtos://user:****@example.org/ops%40example.org"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "slack://T...2/A...D/T...Q/%23ops/"),
        ("ntfy://t0pt0pic", "ntfys://***"),
        ("ntfys://user:s3cret@ntfy.example.org/t0pt0pic", "ntfys://user:****@ntfy.example.org/***"),
        ("json://user:s3cret@example.org:8000/hooks/t0pt0ken", "json://user:****@example.org:8000/***"),
    ],
)
def test_how_a_url_is_shown(settings, url, shown):
    settings.DORMOUSE_WEBHOOK_PRIVATE = url.startswith("json:")
    assert parse(url).shown == shown
