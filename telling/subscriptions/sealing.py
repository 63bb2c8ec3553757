"""Sealing what the database must keep but not show: the URLs and the signing secrets of subscriptions.

A signature needs the secret itself, so its digest is not enough. Both are encrypted with a key that is derived from
DJANGO_SECRET_KEY. A copy of the database alone opens none of them.
"""

import base64
from contextlib import suppress
from functools import cache

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.utils.crypto import salted_hmac


class Unsealable(Exception):
    """Raised if the key has changed since something was sealed."""

    def __init__(self) -> None:
        super().__init__(
            "DJANGO_SECRET_KEY has changed, so its URL and secret cannot be read: name the key that was in "
            "DJANGO_SECRET_KEY_FALLBACKS, or unsubscribe it, and subscribe it anew"
        )


def seal(text: str) -> str:
    """Return `text`, encrypted."""
    return _ciphers()[0].encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Return the text that `seal` has encrypted, perhaps with an earlier key. Raises Unsealable."""
    for cipher in _ciphers():
        with suppress(InvalidToken):
            return cipher.decrypt(sealed.encode()).decode()
    raise Unsealable


def is_current(sealed: str) -> bool:
    """Return whether `sealed` was encrypted with the present key."""
    try:
        _ciphers()[0].decrypt(sealed.encode())
    except InvalidToken:
        return False
    return True


def _ciphers() -> list[Fernet]:
    """Return the cipher of the present key, and then those of the keys before."""
    return [_cipher(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


@cache
def _cipher(secret_key: str) -> Fernet:
    key = salted_hmac("telling.subscriptions.sealing", "", secret=secret_key, algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(key))
