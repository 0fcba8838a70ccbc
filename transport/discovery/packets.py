"""The packets of multicast DNS: python-zeroconf's own, of which only the pure part is used.

Its `Zeroconf` would start an event loop of its own, so the loudspeaker has only these.
"""

from collections.abc import Iterable
from enum import IntEnum

# They are the library's documented names, but its list of exports leaves them out.
from zeroconf import DNSAddress as Address  # type: ignore[attr-defined]
from zeroconf import DNSIncoming as Incoming  # type: ignore[attr-defined]
from zeroconf import DNSOutgoing as Outgoing  # type: ignore[attr-defined]
from zeroconf import DNSPointer as Pointer  # type: ignore[attr-defined]
from zeroconf import DNSQuestion as Question  # type: ignore[attr-defined]
from zeroconf import DNSRecord as Record  # type: ignore[attr-defined]
from zeroconf import DNSService as Service  # type: ignore[attr-defined]
from zeroconf import DNSText as Text  # type: ignore[attr-defined]

__all__ = [
    "Address",
    "Incoming",
    "Outgoing",
    "Pointer",
    "Question",
    "Record",
    "Service",
    "Text",
    "Type",
    "ask",
    "parse",
    "respond",
]

IN = 1
UNIQUE = 0x8000  # of a question: answer me alone; of a record: forget all others (section 10.2)
_RESPONSE = 0x8400  # QR and AA (section 18)
# Records carry when they came; nothing here asks, and a clock is not read.
_NO_TIME = 1.0


class Type(IntEnum):
    """The kinds of record that matter (RFC 1035 section 3.2.2, RFC 2782)."""

    A = 1
    PTR = 12
    TXT = 16
    SRV = 33
    ANY = 255


def parse(data: bytes) -> Incoming | None:
    """A packet, or None for what is none; never raises. Records that are broken are left out."""
    packet = Incoming(data, now=_NO_TIME)
    return packet if packet.valid else None


def ask(questions: Iterable[Question]) -> bytes:
    """A query; so few questions fit one datagram."""
    query = Outgoing(0)
    for question in questions:
        query.add_question(question)
    return query.packets()[0]


def respond(
    answers: Iterable[Record],
    additional: Iterable[Record] = (),
    *,
    legacy_id: int | None = None,
    questions: Iterable[Question] = (),
) -> bytes:
    """A response; a stock resolver's is known by its number and its questions (section 6.7)."""
    response = Outgoing(_RESPONSE, multicast=legacy_id is None, id_=legacy_id or 0)
    for question in questions:
        response.add_question(question)
    for record in answers:
        response.add_answer_at_time(record, 0)
    for record in additional:
        response.add_additional_answer(record)
    return response.packets()[0]


def pointer(name: str, ttl_s: int, alias: str) -> Pointer:
    """A PTR record: one of several of its name."""
    return Pointer(name, Type.PTR, IN, ttl_s, alias, _NO_TIME)


def service(name: str, ttl_s: int, port: int, host: str) -> Service:
    """An SRV record; priority and weight say nothing here."""
    return Service(name, Type.SRV, IN | UNIQUE, ttl_s, 0, 0, port, host, _NO_TIME)


def text(name: str, ttl_s: int, data: bytes) -> Text:
    """A TXT record."""
    return Text(name, Type.TXT, IN | UNIQUE, ttl_s, data, _NO_TIME)


def address(name: str, ttl_s: int, packed: bytes) -> Address:
    """An A record; `packed` is the address's four bytes."""
    return Address(name, Type.A, IN | UNIQUE, ttl_s, packed, created=_NO_TIME)
