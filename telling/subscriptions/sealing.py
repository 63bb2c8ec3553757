"""Sealing what the database must keep but not show: the URLs and the signing secrets of subscriptions.

A signature needs the secret itself, so its digest is not enough. Both are encrypted with a key that is derived from
DJANGO_SECRET_KEY. A copy of the database alone opens none of them.
"""

import base64
from functools import cache

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.utils.crypto import salted_hmac


class Unsealable(Exception):
    """Raised if the key has changed since something was sealed."""

    def __init__(self) -> None:
        super().__init__(
            "DJANGO_SECRET_KEY has changed, so its URL and secret cannot be read: unsubscribe it, and subscribe it anew"
        )


def seal(text: str) -> str:
    """Return `text`, encrypted."""
    return _cipher(settings.SECRET_KEY).encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Return the text that `seal` has encrypted. Raises Unsealable."""
    try:
        return _cipher(settings.SECRET_KEY).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Unsealable from None


@cache
def _cipher(secret_key: str) -> Fernet:
    key = salted_hmac("telling.subscriptions.sealing", "", secret=secret_key, algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(key))
