"""The signature of a webhook: made here, and checked by whoever receives it."""

from __future__ import annotations

import hashlib
import hmac
import re
import time

SIGNATURE_HEADER = "X-Fgmclip-Signature"
DELIVERY_HEADER = "X-Fgmclip-Delivery"

TOLERANCE_SECONDS = 300.0
"""How far a signature's time may lie from the receiver's: older ones may be replayed ones."""

_FORM = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


def sign(secret: str, body: bytes, unix_seconds: int) -> str:
    """Return the header's value: `t=UNIX,v1=HEX`, HEX the HMAC-SHA256 of `UNIX.body`.

    Args:
        secret: The key.
        body: Of the request, as sent.
        unix_seconds: The time of this attempt.
    """
    text = b"%d." % unix_seconds + body
    digest = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return f"t={unix_seconds},v1={digest}"


def verify_signature(
    secret: str,
    header: str,
    body: bytes,
    *,
    now: float | None = None,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> bool:
    """Return whether a request was signed with the secret, and lately.

    Args:
        secret: The key that `watch.yaml` names.
        header: What came as `X-Fgmclip-Signature`.
        body: What came, before anything reads JSON out of it.
        now: The time, Unix seconds; the clock's if None.
        tolerance_seconds: How far the signature's time may lie from it.
    """
    form = _FORM.fullmatch(header)
    if form is None:
        return False
    signed = int(form[1])
    if abs((time.time() if now is None else now) - signed) > tolerance_seconds:
        return False
    return hmac.compare_digest(sign(secret, body, signed), f"t={signed},v1={form[2]}")
