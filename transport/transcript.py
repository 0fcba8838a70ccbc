"""What is signed or authenticated of several parts: one text that can be read in one way only."""


def transcript(domain: str, *parts: bytes) -> bytes:
    """The domain, a zero byte, and each part after its length (32 bits).

    `domain` is ASCII, with no zero byte: ValueError for any other, which is our own misuse.
    """
    if "\0" in domain or not domain.isascii():
        raise ValueError(f"{domain!r} is no domain of signatures")
    pieces = [domain.encode("ascii"), b"\0"]
    for part in parts:
        pieces += (len(part).to_bytes(4), part)
    return b"".join(pieces)
