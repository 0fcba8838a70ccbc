"""What a row says of things, in one spelling and of a size. Pure."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final

MAX_DETAILS_BYTES: Final = 4096
_MOST_ITEMS = 64
_LONGEST = 256
_DEEPEST, _BOTTOM = 6, 64
_DEEPER = "[deeper]"
_BEGINNING = 512
# Beyond it other languages' numbers are not exact.
_EXACT = 1 << 53


def clean(text: str, most: int = _LONGEST) -> str:
    """A text that a stranger may have chosen: one line that commands no terminal, of a length.

    What cannot be printed is written as its code, so that nothing is lost; what is too long ends
    with how many characters more there were.
    """
    cut = len(text) - most
    if cut > 0:
        text = text[:most]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)
    return f"{text}[+{cut}]" if cut > 0 else text


def canonical(details: Mapping[str, Any]) -> str:
    """These as JSON: keys in order, no blanks, clean, and of MAX_DETAILS_BYTES at most.

    Where something had to be left out, `whole` is the SHA-256 of what was there: whoever has it
    can show that it was this.
    """
    plain, cutter = _plain(details), _Cutter()
    bounded = cutter.bound(plain, 0)
    text = _json(bounded)
    if not cutter.cut and len(text.encode()) <= MAX_DETAILS_BYTES:
        return text
    whole = hashlib.sha256(_json(plain).encode("utf-8", "surrogatepass")).hexdigest()
    named = _json({**bounded, "whole": whole})
    if len(named.encode()) <= MAX_DETAILS_BYTES:
        return named
    return _json({"begins": text[:_BEGINNING], "whole": whole})


def _json(plain: Any) -> str:
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _plain(value: Any, depth: int = 0) -> Any:
    """All of it, as JSON has it; as deep as nothing of ours is."""
    if isinstance(value, Mapping):
        parts = {str(key): part for key, part in value.items()}
        return _DEEPER if depth > _BOTTOM else {k: _plain(p, depth + 1) for k, p in parts.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return _DEEPER if depth > _BOTTOM else [_plain(part, depth + 1) for part in value]
    return _scalar(value)


def _scalar(value: object) -> str | int | float | None:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str | bool | None):
        return value
    if isinstance(value, int) and abs(value) < _EXACT:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


class _Cutter:
    """Leaves out of plain JSON what is too much of it; `cut` says whether anything was."""

    def __init__(self) -> None:
        self.cut = False

    def bound(self, value: Any, depth: int) -> Any:
        """The same, of a size."""
        if isinstance(value, str):
            self.cut |= len(value) > _LONGEST
            return clean(value)
        if not isinstance(value, dict | list):
            return value
        if depth >= _DEEPEST:
            self.cut = True
            return _DEEPER
        self.cut |= len(value) > _MOST_ITEMS
        if isinstance(value, list):
            return [self.bound(part, depth + 1) for part in value[:_MOST_ITEMS]]
        self.cut |= any(len(key) > _LONGEST for key in value)
        some = sorted(value.items())[:_MOST_ITEMS]
        return {clean(key): self.bound(part, depth + 1) for key, part in some}
