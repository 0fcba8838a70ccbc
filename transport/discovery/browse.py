"""Looking for stations: the question, and what the answers come to. Sans-I/O."""

import ipaddress
from collections import Counter
from collections.abc import Hashable
from typing import TypeVar

from transport.discovery.packets import (
    IN,
    UNIQUE,
    Address,
    Incoming,
    Pointer,
    Question,
    Record,
    Service,
    Text,
    Type,
    ask,
    parse,
)
from transport.discovery.records import (
    MDNS_PORT,
    STATION_TYPE,
    FoundStation,
    from_txt,
    is_host,
    station_name,
)

MAX_FOUND = 64
_MAX_PER_HOST = 8
_MAX_ASKED_AGAIN = 8
_SUFFIX = "." + STATION_TYPE
_OF_INSTANCE = (Type.SRV, Type.TXT)

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class StationFinder:
    """Gathers what stations answer, in however many packets, from however many interfaces.

    A station is told from another by its host and port, not by its name: two that bear one name
    are two. What is not well-formed, or does not fit, is counted in `dropped` by its reason.
    """

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._instances: dict[str, str] = {}  # as compared: as spelt
        self._services: dict[tuple[str, str, int], None] = {}  # instance, host, port
        self._texts: dict[str, tuple[str, str]] = {}  # of instances: name, root
        self._addresses: dict[str, dict[str, None]] = {}  # of hosts
        self._heard_from: dict[str, str] = {}  # by host: an address of its own it spoke from

    def query(self, *, unicast: bool) -> bytes:
        """The question for all stations; `unicast` asks for answers to us alone (section 5.4)."""
        kind = IN | UNIQUE if unicast else IN
        known = {instance for instance, _, _ in self._services if instance in self._texts}
        missing = [name for key, name in self._instances.items() if key not in known]
        again = missing[:_MAX_ASKED_AGAIN]
        return ask(
            [
                Question(STATION_TYPE, Type.PTR, kind),
                *(Question(name, wanted, kind) for name in again for wanted in _OF_INSTANCE),
            ]
        )

    def receive(self, data: bytes, source: tuple[str, int]) -> None:
        """One datagram; never raises, whatever is in it."""
        packet = parse(data)
        if packet is None:
            self.dropped["malformed"] += 1
        elif source[1] != MDNS_PORT:
            self.dropped["port"] += 1  # no answer of a responder's: section 6
        elif packet.is_response():
            self._take(packet, source[0])

    def _take(self, packet: Incoming, source: str) -> None:
        for record in packet.answers():
            try:
                self._take_record(record, source)
            except ValueError:
                self.dropped["record"] += 1

    def _take_record(self, record: Record, source: str) -> None:
        """ValueError for a record that cannot be true."""
        match record:
            case Pointer() if record.key == STATION_TYPE and _can_be_asked(record.alias):
                self._keep(self._instances, record.alias.lower(), record.alias, record.ttl)
            case Service() if _is_ours(record.name):
                if record.port == 0:
                    raise ValueError("port")
                key = (record.key, record.server_key, record.port)
                self._keep(self._services, key, None, record.ttl)
            case Text() if _is_ours(record.name) and record.ttl:
                pairs = from_txt(record.text)
                text = station_name(pairs.get("name", "")), pairs.get("root", "")
                self._keep(self._texts, record.key, text, record.ttl)
            case Address() if len(record.address) == 4 and record.ttl:
                self._take_address(record, source)
            case _:
                pass

    def _take_address(self, record: Address, source: str) -> None:
        address = ipaddress.IPv4Address(record.address)
        foreign = address.is_loopback and not ipaddress.ip_address(source).is_loopback
        if foreign or not is_host(address):
            raise ValueError("address")
        self._keep(self._addresses, record.key, self._addresses.get(record.key, {}), record.ttl)
        own = self._addresses.get(record.key, {})
        if len(own) < _MAX_PER_HOST:
            own[str(address)] = None
        if str(address) == source:
            self._heard_from.setdefault(record.key, source)

    def _keep(self, where: dict[_Key, _Value], key: _Key, value: _Value, ttl: float) -> None:
        """What is not there yet; a TTL of 0 is a goodbye (section 10.1)."""
        if not ttl:
            where.pop(key, None)
        elif key in where or len(where) < MAX_FOUND:
            where[key] = value
        else:
            self.dropped["full"] += 1

    @property
    def found(self) -> tuple[FoundStation, ...]:
        """Every station of which everything is known, sorted; 64 at most."""
        stations = {
            FoundStation(text[0], self._address(host), port, text[1])
            for instance, host, port in self._services
            if (text := self._texts.get(instance)) and self._addresses.get(host)
        }
        return tuple(sorted(stations, key=lambda s: (s.name, s.address, s.port)))

    def _address(self, host: str) -> str:
        """Of several the one that answered: the others may be of networks we cannot reach."""
        return self._heard_from.get(host) or next(iter(self._addresses[host]))


def _is_ours(name: str) -> bool:
    return name.lower().endswith(_SUFFIX) and len(name) > len(_SUFFIX)


def _can_be_asked(name: str) -> bool:
    """Whether the name of an instance can be written as it was read: one label, and UTF-8."""
    label = name[: -len(_SUFFIX)]
    written = 0 < len(label.encode()) < 64 and "." not in label and "\ufffd" not in label
    return written and _is_ours(name)
