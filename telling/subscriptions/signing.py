"""Signatures of deliveries, as Standard Webhooks says.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
SECRET_BYTES = 32


def make_secret() -> str:
    """Return a new secret, as receivers enter it: `whsec_` and Base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(body: bytes, *, id: str, seconds: int, signing_secrets: Iterable[str]) -> dict[str, str]:
    """Return the headers of a delivery that is sent at `seconds` since 1970, with a signature by each secret."""
    signed = f"{id}.{seconds}.".encode() + body
    signatures = (_sign(signed, secret) for secret in signing_secrets)
    return {"webhook-id": id, "webhook-timestamp": str(seconds), "webhook-signature": " ".join(signatures)}


def _sign(signed: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
