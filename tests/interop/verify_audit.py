"""A verifier written from AUDIT.md alone: `verify_audit.py EXPORT ROOT`, ROOT in hexadecimal."""

import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TEXTS = ("at", "who", "where", "what", "on", "why", "outcome")


def transcript(domain: str, *parts: bytes) -> bytes:
    framed = [struct.pack("!I", len(part)) + part for part in parts]
    return domain.encode() + b"\0" + b"".join(framed)


def is_signed(public: bytes, signature: bytes, domain: str, *parts: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, transcript(domain, *parts))
    except (InvalidSignature, ValueError):
        return False
    return True


def is_head_of(head: dict[str, Any], root: bytes) -> bool:
    """Whether the root certifies the station's key, that the log's, and that signed the head."""
    station, delegate, signature, tail = (
        bytes.fromhex(head[key]) for key in ("station", "delegate", "signature", "hash")
    )
    if len(station) != 136 or len(delegate) != 112:
        return False
    said_root, generation, station_key = struct.unpack("!32sQ32s", station[:72])
    said_generation, _, log_key = struct.unpack("!QQ32s", delegate[:48])
    said = [str(head[key]).encode() for key in ("kind", "head", "at")]
    return (
        (said_root, said_generation) == (root, generation)
        and is_signed(root, station[72:], "loa.station-certificate.2", station[:72])
        and is_signed(station_key, delegate[48:], "loa.audit-certificate.1", delegate[:48])
        and is_signed(log_key, signature, "loa.audit-head.1", *said, tail)
    )


def flaw_of_row(row: dict[str, Any], number: int, last: bytes) -> str:
    """What is wrong with it, if it should be this one, behind a row of that hash."""
    parts = [str(row["seq"]).encode(), *(row[key].encode() for key in TEXTS)]
    due = hashlib.sha256(transcript("loa.audit-row.1", last, *parts)).hexdigest()
    right = (row["seq"], row["hash"]) == (number, due)
    return "" if right else f"row {number} was edited, taken out or moved"


def flaw_of_head(head: dict[str, Any], number: int, last: bytes, root: bytes) -> str:
    """The same of a head behind that row."""
    if head["kind"] == "cut" or (head["head"], head["hash"]) != (number, last.hex()):
        return f"a row of 1 to {max(head['head'], number)} was changed or taken out"
    return "" if is_head_of(head, root) else f"the head of row {number} is not the station's"


def verify(lines: list[bytes], trusted: bytes) -> tuple[int, int] | str:
    """The first row and the last, or what is wrong."""
    header, *others = map(json.loads, lines)
    root, number, kind = bytes.fromhex(header["root"]), 0, ""
    last = hashlib.sha256(transcript("loa.audit-genesis.1", root)).digest()
    if others and others[0].get("kind") == "cut":
        cut = others.pop(0)
        number, last = cut["head"], bytes.fromhex(cut["hash"])
        if not is_head_of(cut, root) and not is_head_of(cut, trusted):
            return f"rows 1 to {number} are missing, and not cut off by the station"
    first = number + 1
    for line in others:
        before, kind = kind, line.get("kind", "")
        number += not kind
        flaw = flaw_of_head(line, number, last, root) if kind else flaw_of_row(line, number, last)
        if flaw or before == "closing":
            return flaw or "something stands behind the closing head"
        last = bytes.fromhex(line["hash"])
        if line.get("what") == "log.root":
            root = bytes.fromhex(json.loads(line["on"])["root"])
    if kind != "closing":
        return f"rows behind {number} were cut off"
    return (first, number) if root == trusted else "it is the log of another station"


if __name__ == "__main__":
    found = verify(Path(sys.argv[1]).read_bytes().splitlines(), bytes.fromhex(sys.argv[2]))
    if isinstance(found, str):
        sys.exit(found)
    first, last = found
    cut = f" (it has cut off rows 1 to {first - 1})" if first > 1 else ""
    print(f"rows {first} to {last}, all as the station signed them{cut}")
