"""One-time codes by time (RFC 6238, on RFC 4226): six digits every 30 s. Pure."""

import base64
import hashlib
import hmac
from urllib.parse import quote

SECRET_BYTES = 20  # RFC 4226 section 4, R6
STEP_S = 30
DIGITS = 6
# Clocks of telephones differ; one step either way (RFC 6238 section 5.2).
_SLACK = 1


def code_at(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """The code of one step (RFC 4226 section 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8), hashlib.sha1)
    at = digest[-1] & 0x0F
    number = int.from_bytes(digest[at : at + 4]) & 0x7FFF_FFFF
    return str(number % 10**digits).zfill(digits)


def step_of(secret: bytes, code: str, now_s: int, used: int) -> int | None:
    """Which step's code that is, of those good now; None if it is none, or not after `used`.

    A step may be used once: whoever saw the code typed cannot use it again.
    """
    typed = code.replace(" ", "").encode(errors="replace")
    here = now_s // STEP_S
    found = None
    for step in range(here - _SLACK, here + _SLACK + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), typed) and step > used:
            found = step
    return found


def shown(secret: bytes) -> str:
    """The secret as it is typed into an authenticator."""
    return base64.b32encode(secret).decode()


def uri(secret: bytes, station: str, name: str) -> str:
    """The same as authenticators scan it (the Key URI format)."""
    label = quote(f"{station}:{name}", safe="")
    return f"otpauth://totp/{label}?secret={shown(secret)}&issuer={quote(station, safe='')}"
