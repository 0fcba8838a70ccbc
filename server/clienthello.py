"""What a caller asks for in its first bytes of TLS, before anybody has answered. Pure."""

_HANDSHAKE_RECORD, _CLIENT_HELLO = 22, 1
_ALPN = 16


class _CutError(Exception):
    """The bytes end before what they announce."""


class _Reader:
    """Takes numbers and vectors off the front (RFC 8446 3.4)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next so many bytes; `_CutError` if there are fewer."""
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise _CutError
        self._at += count
        return taken

    def number(self, width: int) -> int:
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """So many bytes as a number of `width` bytes says."""
        return self.take(self.number(width))

    def rest(self) -> bytes:
        """All that is left."""
        return self._data[self._at :]


def alpn_of(first_bytes: bytes) -> tuple[str, ...]:
    """The protocols a TLS ClientHello offers (RFC 7301 3.1), the caller's dearest first.

    Nothing for all else: other bytes, a hello without ALPN, or one that is cut off before it.
    What comes after the list is not looked at, so a hello need not be whole.
    """
    try:
        return _protocols(_Reader(_extensions(_Reader(_handshake(first_bytes)))))
    except _CutError:
        return ()


def is_whole(first_bytes: bytes) -> bool:
    """Whether a whole ClientHello is here: to answer it waits for nobody any more."""
    message = _Reader(_handshake(first_bytes))
    try:
        hello = message.number(1) == _CLIENT_HELLO
        message.vector(3)
    except _CutError:
        return False
    return hello


def _handshake(data: bytes) -> bytes:
    """The handshake messages, as far as they are here: records may cut them anywhere (5.1)."""
    records, pieces = _Reader(data), []
    while records:
        try:
            if records.number(1) != _HANDSHAKE_RECORD:
                break
            records.take(2)  # the version: frozen, and to be ignored
            length = records.number(2)
        except _CutError:
            break
        pieces.append(records.rest()[:length])
        if len(pieces[-1]) < length:
            break
        records.take(length)
    return b"".join(pieces)


def _extensions(hello: _Reader) -> bytes:
    """The extensions of a ClientHello (RFC 8446 4.1.2), as far as they are here."""
    if hello.number(1) != _CLIENT_HELLO:
        raise _CutError
    hello.take(3 + 2 + 32)  # length, legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    length = hello.number(2)
    return hello.rest()[:length]


def _protocols(extensions: _Reader) -> tuple[str, ...]:
    while extensions.number(2) != _ALPN:
        extensions.vector(2)
    names, found = _Reader(_Reader(extensions.vector(2)).vector(2)), []
    while names:
        found.append(names.vector(1).decode("latin-1"))
    return tuple(found)
