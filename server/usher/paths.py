"""Where loudspeakers are, as their own authenticated keep-alives show. Pure.

A keep-alive is a STUN Binding request (RFC 8489) under its session's key, sent from the media port.
Whoever asks from a new address gets a nonce that only who receives there can give back; not before
that does the path count, so nobody can have sound sent to an address that is not theirs.
A loudspeaker has one path, that of its newest session which has opened one.
"""

import base64
import hmac
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from server.processes.bus import DeclarePaths, PathReport
from transport.clock.timeline import NS_PER_SECOND
from transport.control.address import plain_address
from transport.errors import MalformedPacket
from transport.security import stun
from transport.security.session_keys import holder_of, is_newer, session_key

MAX_PATHS = 20_000
# Four keep-alives (PROTOCOL).
FORGET_NS = 60 * NS_PER_SECOND
# What a loudspeaker sends takes 88 bytes at most, a stranger's attributes included; more than this
# is not even received whole.
MAX_REQUEST = 256
NONCE_SECRET_BYTES = 32
# 48 bits that hold for two minutes, spelt as RFC 8489 section 14.10 wants a nonce; with eight
# characters the challenge is no longer than a request without a nonce.
NONCE_BYTES = 8
_MINUTE_NS = 60 * NS_PER_SECOND
# Who asks and has no answer says the same again, four times in all (PROTOCOL): such a repeat is
# answered, for the answer may be lost, but it is no sign of life.
_REMEMBERED = 4
_NONCE_DOMAIN = b"loa.path.nonce\0"
# Of one declaration: 75 and 9 bytes each at most, within the 64 KB of the bus.
_MOST_OPENED = 500
_MOST_CLOSED = 2_000

Address = tuple[str, int]


class Nonces:
    """Draws a nonce for an address without keeping anything of it; `secret` is random."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def nonce(self, source: Address, now_ns: int) -> bytes:
        """What `source` has to give back."""
        return self._of(source, now_ns // _MINUTE_NS)

    def holds(self, nonce: bytes, source: Address, now_ns: int) -> bool:
        """Whether `source` was given this nonce, in this minute or in the last."""
        minute = now_ns // _MINUTE_NS
        return any(hmac.compare_digest(nonce, self._of(source, of)) for of in (minute, minute - 1))

    def _of(self, source: Address, minute: int) -> bytes:
        address, port = source
        packed = ipaddress.ip_address(address).packed
        asked = packed + port.to_bytes(2, "big") + minute.to_bytes(8, "big")
        mac = hmac.digest(self._secret, _NONCE_DOMAIN + asked, "sha256")
        return base64.b64encode(mac[: NONCE_BYTES * 6 // 8])


@dataclass(slots=True)
class _Path:
    session: int
    source: Address
    heard_ns: int
    # Of the last questions that counted.
    transactions: tuple[bytes, ...] = ()


class Paths:
    """The table of paths: at most `MAX_PATHS`, of which the one least recently heard makes room.

    `secret` is the station's, of which the sessions' keys are derived; `random` is this process's
    own. What control is to hear waits until `taken`: of each session only what is true now.
    Each loudspeaker has one: its newest session's takes the place of an older one's, and no key of
    an older session is good for anything then.
    """

    def __init__(self, secret: bytes, random: bytes) -> None:
        self._secret = secret
        self._nonces = Nonces(random)
        # By the holders of their sessions.
        self._paths: OrderedDict[int, _Path] = OrderedDict()
        # Sets of sessions that keep their order.
        self._opened: dict[int, None] = {}
        self._closed: dict[int, None] = {}
        self.malformed = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._paths)

    def receive(self, data: bytes, source: Address, now_ns: int) -> bytes | None:
        """One datagram from an IP address and port; the answer, if it deserves one.

        Nothing is stored or answered but for who knows the key of the session, and the answer is
        longer than `data` only for who has proved to be where it seems to be.
        """
        if len(data) > MAX_REQUEST or not stun.is_stun(data):
            self.malformed += 1
            return None
        try:
            request = stun.parse_request(data)
        except MalformedPacket:
            self.malformed += 1
            return None
        answer = self._answer(request, source, now_ns, len(data))
        if answer is None:
            self.refused += 1
        return answer

    def _answer(
        self, request: stun.Request, source: Address, now_ns: int, longest: int
    ) -> bytes | None:
        """To whoever knows the key of a session that is not over; None to anybody else."""
        address = plain_address(source[0])
        if _is_link_local(address):
            return None
        source = address, source[1]
        key = session_key(self._secret, request.session)
        try:
            stun.check_request(request, key)
        except MalformedPacket:
            return None
        if self._is_over(request.session):
            return None
        if not self._is_proved(request, source, now_ns):
            nonce = self._nonces.nonce(source, now_ns)
            answer = stun.stale(request.transaction, nonce, key)
            # The address may be forged: nobody there is sent more than we were.
            return answer if len(answer) <= longest else None
        if not self._heard(request, source, now_ns):
            return None
        return stun.success(request.transaction, *source, key)

    def _is_over(self, session: int) -> bool:
        path = self._paths.get(holder_of(session))
        return path is not None and session != path.session and not is_newer(session, path.session)

    def _is_proved(self, request: stun.Request, source: Address, now_ns: int) -> bool:
        path = self._paths.get(holder_of(request.session))
        if path is not None and (path.session, path.source) == (request.session, source):
            return True
        return request.nonce is not None and self._nonces.holds(request.nonce, source, now_ns)

    def _heard(self, request: stun.Request, source: Address, now_ns: int) -> bool:
        """A question proved to be of the holder's newest session, from `source`.

        False if it was heard before from elsewhere: then somebody plays it again.
        """
        session, holder = request.session, holder_of(request.session)
        path = self._paths.get(holder)
        if path is not None and path.session != session:
            self._closes(path.session)
            path = None
        if path is None:
            path = self._paths[holder] = _Path(session, source, now_ns)
            self._opens(session)
        elif request.transaction in path.transactions:
            return path.source == source
        elif path.source != source:
            path.source = source
            self._opens(session)
        path.heard_ns = now_ns
        path.transactions = (*path.transactions, request.transaction)[-_REMEMBERED:]
        self._paths.move_to_end(holder)
        if len(self._paths) > MAX_PATHS:
            self._close_oldest()
        return True

    def _opens(self, session: int) -> None:
        self._closed.pop(session, None)
        self._opened[session] = None

    def _close_oldest(self) -> None:
        _, path = self._paths.popitem(last=False)
        self._closes(path.session)

    def _closes(self, session: int) -> None:
        self._opened.pop(session, None)
        self._closed[session] = None
        if len(self._closed) > MAX_PATHS:  # control does not read: it will ask for everything
            del self._closed[next(iter(self._closed))]

    def path_of(self, session: int) -> Address | None:
        """Where this session's media go; None if it has no open path, or a newer one has it."""
        path = self._paths.get(holder_of(session))
        return path.source if path is not None and path.session == session else None

    def expire(self, now_ns: int) -> None:
        """Close what has not been kept alive."""
        while self._paths and next(iter(self._paths.values())).heard_ns <= now_ns - FORGET_NS:
            self._close_oldest()

    def tell_all(self) -> None:
        """Control knows nothing: declare every path again."""
        self._opened = dict.fromkeys(path.session for path in self._paths.values())

    @property
    def is_pending(self) -> bool:
        """Whether there is anything that control is to hear."""
        return bool(self._opened or self._closed)

    def declaration(self) -> DeclarePaths:
        """What control is to hear next, as much as the bus takes at once."""
        opened = tuple(
            PathReport(session, *self._paths[holder_of(session)].source)
            for session in islice(self._opened, _MOST_OPENED)
        )
        return DeclarePaths(opened, tuple(islice(self._closed, _MOST_CLOSED)))

    def taken(self, declaration: DeclarePaths) -> None:
        """Control has it; to be called before anything else is received."""
        for report in declaration.opened:
            del self._opened[report.session]
        for session in declaration.closed:
            del self._closed[session]


def _is_link_local(address: str) -> bool:
    """Whether it means nothing without its interface (RFC 4291 section 2.5.6).

    Routes have no room for that; these loudspeakers come by the gateway.
    """
    return ":" in address and ipaddress.IPv6Address(address).is_link_local
