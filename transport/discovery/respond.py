"""A loudspeaker's side of multicast DNS: what it announces, and what it answers. Sans-I/O."""

import ipaddress
from collections import Counter
from dataclasses import dataclass

from transport.discovery import packets
from transport.discovery.packets import Incoming, Question, Record, Type
from transport.discovery.records import (
    MDNS_PORT,
    SPEAKER_TYPE,
    instance_label,
    speaker_txt,
    tag_of,
)

TTL_S = 120  # that of records with a host's name or address in them (RFC 6762 section 10)
_LEGACY_TTL_S = 10  # section 6.7
_ALL_TYPES = "_services._dns-sd._udp.local."  # RFC 6763 section 9
_ANY_CLASS = 255
# It takes no calls: its ways to the station it opens itself (RFC 6763 section 8 uses 0 likewise).
_NO_PORT = 0


@dataclass(frozen=True, slots=True)
class SpeakerAdvert:
    """What a loudspeaker says of itself on one network.

    `address` is its IPv4 address there, `station` the host:port it has joined or empty.
    `identity` tells it from others of the same name and stays the same when it starts again; with
    it in the name no two are alike, so nothing is probed for (section 8.1).
    """

    name: str
    station: str
    address: str
    identity: str

    @property
    def instance(self) -> str:
        """The DNS-SD instance's name."""
        return f"{instance_label(self.name, self._tag)}.{SPEAKER_TYPE}"

    @property
    def host(self) -> str:
        """A host name of its own: the machine's belongs to whoever else speaks mDNS on it."""
        return f"loa-speaker-{self._tag}.local."

    @property
    def _tag(self) -> str:
        return tag_of(self.name, self.identity)

    def announcement(self) -> bytes:
        """Everything, for everybody: said first, at each change, and when somebody asks."""
        return packets.respond(self.records())

    def goodbye(self) -> bytes:
        """Everything with a TTL of 0 (section 10.1)."""
        return packets.respond(self.records(0))

    def records(self, ttl_s: int = TTL_S) -> tuple[Record, ...]:
        """PTR, SRV, TXT and A."""
        packed = ipaddress.IPv4Address(self.address).packed
        return (
            packets.pointer(SPEAKER_TYPE, ttl_s, self.instance),
            packets.service(self.instance, ttl_s, _NO_PORT, self.host),
            packets.text(self.instance, ttl_s, speaker_txt(self.name, self.station)),
            packets.address(self.host, ttl_s, packed),
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """What a query asks for: bytes for the asker alone, at once, or the announcement for all.

    The announcement waits for 20 to 120 ms, that not everybody may speak at the same time
    (section 6), and is said at most once a second; both are the caller's to do.
    """

    unicast: bytes | None = None
    announce: bool = False


class Responder:
    """Answers queries; what is not well-formed is counted in `dropped` by its reason."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()

    def answer(
        self, data: bytes, source_port: int, advert: SpeakerAdvert, *, multicast_lately: bool
    ) -> Reply:
        """What to do about one datagram; never raises, whatever is in it.

        `multicast_lately` says that everybody was told within the last quarter of the TTL; only
        then may one who wants to be told alone be (section 5.4).
        """
        query = packets.parse(data)
        if query is None:
            self.dropped["malformed"] += 1
            return Reply()
        if not query.is_query() or not query.questions:
            return Reply()
        legacy = source_port != MDNS_PORT
        records = advert.records(_LEGACY_TTL_S if legacy else TTL_S)
        known = query.answers()
        wanted = [r for r in _asked(query, records) if not any(_knows(k, r) for k in known)]
        if not wanted:
            return Reply()
        # What will be asked for next (RFC 6763 section 12).
        more = [r for r in records if r not in wanted]
        if legacy:
            # Only what was answered is repeated: other names may be no names at all.
            asked = [q for q in query.questions if any(_fits(q, r) for r in wanted)]
            alone = packets.respond(wanted, more, legacy_id=query.id, questions=asked)
            return Reply(unicast=alone)
        if multicast_lately and all(question.unicast for question in query.questions):
            return Reply(unicast=packets.respond(wanted, more))
        return Reply(announce=True)


def _asked(query: Incoming, records: tuple[Record, ...]) -> list[Record]:
    """The records that answer any of the questions."""
    types = packets.pointer(_ALL_TYPES, records[0].ttl, SPEAKER_TYPE)
    return [r for r in (*records, types) if any(_fits(q, r) for q in query.questions)]


def _fits(question: Question, record: Record) -> bool:
    """Whether a record answers a question; names are compared regardless of case (section 16)."""
    return (
        question.key == record.key
        and question.type in (record.type, Type.ANY)
        and question.class_ in (record.class_, _ANY_CLASS)
    )


def _knows(known: Record, record: Record) -> bool:
    """Whether the asker has it already, and for a while yet (section 7.1)."""
    return bool(known == record) and known.ttl >= record.ttl / 2
