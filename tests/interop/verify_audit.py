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


def verify(lines: list[bytes], trusted: bytes) -> int | str:
    """How many rows there are, or what is wrong."""
    first, *others = map(json.loads, lines)
    root, number, kind = bytes.fromhex(first["root"]), 0, ""
    last = hashlib.sha256(transcript("loa.audit-genesis.1", root)).digest()
    for line in others:
        if kind == "closing":
            return "something stands behind the closing head"
        kind = line.get("kind", "")
        if kind and (line["head"], line["hash"]) != (number, last.hex()):
            return f"a row of 1 to {max(line['head'], number)} was changed or taken out"
        if kind and not is_head_of(line, root):
            return f"the head of row {number} is not the station's"
        if kind:
            continue
        number += 1
        parts = [str(line["seq"]).encode(), *(line[key].encode() for key in TEXTS)]
        last = hashlib.sha256(transcript("loa.audit-row.1", last, *parts)).digest()
        if (line["seq"], line["hash"]) != (number, last.hex()):
            return f"row {number} was edited, taken out or moved"
        root = bytes.fromhex(json.loads(line["on"])["root"]) if line["what"] == "log.root" else root
    if kind != "closing":
        return f"rows behind {number} were cut off"
    return number if root == trusted else "it is the log of another station"


if __name__ == "__main__":
    found = verify(Path(sys.argv[1]).read_bytes().splitlines(), bytes.fromhex(sys.argv[2]))
    print(found, "rows, all as the station signed them") if isinstance(found, int) else None
    sys.exit(0 if isinstance(found, int) else found)
