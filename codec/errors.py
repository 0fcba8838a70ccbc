"""What can go wrong with sound. Misuse by our own code is ValueError instead."""


class CodecError(Exception):
    """Anything this package raises about the outside world."""


class SourceError(CodecError):
    """A source gives no sound: one line for a person, with what to do about it."""


class CorruptPacket(CodecError):  # noqa: N818 - it names the packet; callers count and drop it
    """Bytes that are not an Opus packet (RFC 6716 section 3.4)."""
