"""Keys, certificates and the twin in clear: what each may know, and who is sent what."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.processes.bus import (
    FROM_PRODUCER,
    TO_PRODUCER,
    DeclareProgrammes,
    ProducerReport,
    ProgrammeOrder,
    ProgrammeReport,
    StreamReport,
    pack_sessions,
    unpack_sessions,
)
from server.processes.routing import unpack_destinations
from server.producer.programme import Programme as ProducedProgramme
from server.producer.registry import Registry
from server.programmes import LiveRequest, Programme
from server.speakers import Path, Speaker
from server.station import MAX_PROGRAMMES, Station
from tests.support.stations import (
    CERTIFIER,
    GENERATION,
    KEY,
    TO_ALL,
    S,
    a_station,
    epochs_of,
    join,
    listen,
    names,
    on_air,
    put_zone,
    remembered,
    report_of,
    routes,
    spec_of,
)
from transport.control.messages import TO_SPEAKER, EpochSpec
from transport.control.priority import Priority
from transport.control.wire import MAX_MESSAGE_BYTES
from transport.security.certificates import StreamCertificate
from transport.security.keys import VerifyKey

TO_CLEAR = LiveRequest(zones=("z",))


@pytest.fixture
def station() -> Station:
    return a_station()


@pytest.fixture
def clear() -> Station:
    """Where the zone `z` is everybody, and in clear."""
    made = a_station()
    put_zone(made, "z", {"zone": "all"})
    made.zones.set_clear("z", clear=True)
    return made


def speaker_of(station: Station, name: str) -> Speaker:
    return station.speakers[name]


def number_of(station: Station, name: str) -> int:
    return station.speakers[name].session_number


def certificate(station: Station, name: str) -> StreamCertificate:
    seal = spec_of(station, name).seal
    assert seal is not None
    return StreamCertificate.parse(seal.certificate, VerifyKey(KEY.public), GENERATION)


def with_epochs(programme: Programme, ssrc: int, *numbers: int) -> ProducerReport:
    """The producer's word on its first stream, which has come to these epochs."""
    (item,) = report_of(programme, ssrc=ssrc).programmes
    stream = replace(item.streams[0], epochs=epochs_of(ssrc, *numbers))
    return ProducerReport("life", (replace(item, streams=(stream, *item.streams[1:])),))


# ------------------------------------------------------------------ certificates
def test_a_loudspeaker_is_given_a_certificate_of_the_key_that_the_producer_drew(
    station: Station,
) -> None:
    join(station, "a")
    programme = on_air(station, replace(TO_ALL, priority=Priority.PRIORITY))
    assert programme.report is not None
    told = certificate(station, "a")
    assert told.public == programme.report.streams[0].public
    assert (told.highest_priority, told.test) == (Priority.PRIORITY, False)
    assert told.serial == (1 << 32) + programme.streams[0].stream


def test_a_test_is_certified_as_nothing_but_a_test(station: Station) -> None:
    join(station, "a")
    on_air(station, replace(TO_ALL, test=True))
    assert certificate(station, "a").test
    assert spec_of(station, "a").test


def test_each_encoding_has_a_serial_of_its_own_which_is_what_its_order_says(
    station: Station,
) -> None:
    for delivery in ("lan", "wan", "saver"):
        join(station, delivery, delivery=delivery)
    on_air(station)
    (order,) = station.orders().programmes
    serials = {stream.frame_ms: stream.serial for stream in order.streams}
    told = {spec_of(station, n).frame_ms: certificate(station, n).serial for n in station.speakers}
    assert told == serials
    assert len(set(serials.values())) == 3


def test_no_serial_comes_again_when_the_station_has_lost_its_count() -> None:
    one, other = (a_station(boot=boot).open(TO_ALL, 0) for boot in (1, 2))
    assert one.name == other.name
    assert {s.serial for s in one.streams}.isdisjoint(s.serial for s in other.streams)


def test_a_loudspeaker_is_told_every_epoch_that_may_come(station: Station) -> None:
    join(station, "a")
    programme = on_air(station, ssrc=7)
    station.update(with_epochs(programme, 7, 0, 1, 2), 0)
    spec = spec_of(station, "a")
    assert spec.seal is not None
    told = tuple(EpochSpec(e.number, e.ssrc, e.key) for e in epochs_of(7, 0, 1, 2))
    assert (spec.seal.epochs, spec.ssrc) == (told, 7)


def test_other_epochs_are_told_at_once_and_are_no_new_voice_to_wait_for(station: Station) -> None:
    programme = station.open(TO_ALL, 0)
    station.update(report_of(programme, "waiting", ssrc=7), 0)
    assert station.update(with_epochs(programme, 7, 0, 1, 2), 9 * S)
    assert not station.update(with_epochs(programme, 7, 0, 1, 2), 10 * S)
    assert programme.since_ns == 0


@pytest.mark.parametrize("clash", ["known by", "on the wire"])
def test_of_two_programmes_with_one_ssrc_the_one_that_is_heard_is_told(
    station: Station, clash: str
) -> None:
    join(station, "a")
    alarm = on_air(station, replace(TO_ALL, priority=Priority.EMERGENCY), ssrc=7)
    on_air(station, ssrc=7 if clash == "known by" else epochs_of(7, 1)[0].ssrc)
    assert names(station, "a") == [alarm.name]


# ------------------------------------------------------------------ other keys
def test_other_keys_for_everybody_change_every_order_and_nothing_else(station: Station) -> None:
    join(station, "a")
    on_air(station)
    on_air(station)
    orders, told, sent = station.orders(), listen(station, "a"), routes(station)
    station.rekey_all()
    after = station.orders().programmes
    assert [order.rekey for order in after] == [1, 1]
    assert DeclareProgrammes(tuple(replace(o, rekey=0) for o in after)) == orders
    assert (listen(station, "a"), routes(station)) == (told, sent)


def test_serials_epochs_and_other_keys_outlive_control(station: Station) -> None:
    join(station, "a")
    programme = on_air(station, ssrc=7)
    station.update(with_epochs(programme, 7, 1, 2, 3), 0)
    station.rekey_all()
    other = remembered(station)
    assert other.orders() == station.orders()
    assert listen(other, "a") == listen(station, "a")
    assert other.open(TO_ALL, 0).streams[0].serial >> 32 == 2


def test_a_programme_s_keys_are_not_in_what_it_looks_like(station: Station) -> None:
    join(station, "a")
    programme = on_air(station, ssrc=7)
    assert programme.report is not None
    for shown in (programme, station, programme.report, listen(station, "a")):
        for epoch in programme.report.streams[0].epochs:
            assert repr(epoch.key)[2:-1] not in repr(shown)
            assert epoch.key.hex() not in repr(shown)


# ------------------------------------------------------------------ in clear
def test_what_goes_to_a_zone_in_clear_has_a_twin_that_alone_is_described(clear: Station) -> None:
    join(clear, "a", delivery="saver")
    join(clear, "b")
    programme = on_air(clear, TO_CLEAR)
    first, second = programme.streams
    assert second.clear is None
    assert first.clear is not None
    sent = routes(clear)
    assert set(sent) == {first.stream, second.stream, first.clear}
    twin = sent[first.clear]
    assert unpack_destinations(twin.destinations) == [(programme.group, 5006, 5007)]
    assert (twin.announce, twin.group) == (f"SDP of {programme.name}", programme.group)
    for sealed in (sent[first.stream], sent[second.stream]):
        assert (sealed.announce, sealed.group) == (None, None)
        assert len(unpack_destinations(sealed.destinations)) == 1


@pytest.mark.parametrize("request_", [TO_ALL, LiveRequest(("a",)), LiveRequest(zones=("y",))])
def test_what_goes_to_no_zone_in_clear_has_none(clear: Station, request_: LiveRequest) -> None:
    join(clear, "a", multicast=True)
    put_zone(clear, "y", {"zone": "z"})  # made of one in clear, and not in clear by that
    programme = on_air(clear, request_)
    assert [stream.clear for stream in programme.streams] == [None]
    assert {route.announce for route in routes(clear).values()} == {None}


@pytest.mark.parametrize("wanted", [True, False])
def test_a_zone_in_clear_concerns_the_next_programme(clear: Station, wanted: bool) -> None:
    clear.zones.set_clear("z", clear=not wanted)
    before = on_air(clear, TO_CLEAR)
    clear.zones.set_clear("z", clear=wanted)
    assert (before.clear, on_air(clear, TO_CLEAR).clear) == (not wanted, wanted)


def in_clear(station: Station, name: str) -> None:
    changed = replace(station.directory.endpoint(name), clear=True)
    station.directory.put_endpoint(changed)


def test_a_loudspeaker_that_was_told_so_is_given_the_twin_and_the_others_are_not(
    clear: Station,
) -> None:
    for name in ("stock", "ours"):
        join(clear, name, multicast=True)
    in_clear(clear, "stock")
    programme = on_air(clear, TO_CLEAR, ssrc=7)
    assert programme.report is not None
    stock, ours = spec_of(clear, "stock"), spec_of(clear, "ours")
    assert (stock.seal, stock.group, stock.port) == (None, programme.group, 5006)
    assert stock.ssrc == programme.report.streams[0].clear_ssrc
    assert stock.timestamp_offset == ours.timestamp_offset
    assert ours.seal is not None
    assert (ours.group, ours.port, ours.ssrc) == (programme.group, 5004, 7)


def test_where_everybody_hears_the_twin_the_sealed_sound_goes_to_no_group(clear: Station) -> None:
    join(clear, "stock", multicast=True)
    in_clear(clear, "stock")
    programme = on_air(clear, TO_CLEAR)
    assert not clear.uses_group(programme)
    assert routes(clear)[programme.streams[0].stream].destinations == b""


@pytest.mark.parametrize("multicast", [True, False])
def test_where_there_is_no_twin_to_be_had_a_loudspeaker_in_clear_hears_what_is_sealed(
    clear: Station, multicast: bool
) -> None:
    join(clear, "a", multicast=multicast)
    in_clear(clear, "a")
    on_air(clear, TO_ALL if multicast else TO_CLEAR)
    assert spec_of(clear, "a").seal is not None


# ------------------------------------------------------------------ ways
def test_nothing_is_sent_to_a_loudspeaker_that_has_opened_no_path(station: Station) -> None:
    join(station, "a", port=None)
    programme = on_air(station)
    assert routes(station)[programme.streams[0].stream].destinations == b""
    assert station.opened(number_of(station, "a"), "192.0.2.9", 40_000)
    sent = unpack_destinations(routes(station)[programme.streams[0].stream].destinations)
    assert sent == [("192.0.2.9", 40_000, 40_000)]


def test_a_path_that_moves_is_followed_and_one_that_is_gone_is_not_used(station: Station) -> None:
    join(station, "a", port=None)
    number = number_of(station, "a")
    assert station.opened(number, "192.0.2.9", 40_000)
    assert not station.opened(number, "192.0.2.9", 40_000)
    assert station.opened(number, "192.0.2.9", 40_001)
    assert speaker_of(station, "a").path == Path("192.0.2.9", 40_001)
    assert station.closed(number)
    assert not station.closed(number)
    assert speaker_of(station, "a").path is None


def test_a_path_of_no_session_that_is_known_is_nobody_s(station: Station) -> None:
    join(station, "a", port=None)
    assert not station.opened(4711, "192.0.2.9", 40_000)
    assert not station.closed(4711)
    assert speaker_of(station, "a").path is None


def test_the_old_path_serves_until_the_new_session_has_opened_one(station: Station) -> None:
    station.leave("a", join(station, "a", port=40_000))
    old = number_of(station, "a")
    join(station, "a", port=None)
    assert speaker_of(station, "a").path == Path("192.0.2.1", 40_000)
    assert station.opened(old, "192.0.2.1", 40_001)  # said again by a sender born again
    assert station.opened(number_of(station, "a"), "192.0.2.1", 40_002)
    assert not station.opened(old, "192.0.2.1", 40_003)
    assert not station.closed(old)
    assert speaker_of(station, "a").path == Path("192.0.2.1", 40_002)


def test_an_old_path_that_is_gone_is_gone_though_the_session_is_new(station: Station) -> None:
    station.leave("a", join(station, "a", port=40_000))
    old = number_of(station, "a")
    join(station, "a", port=None)
    assert station.closed(old)
    assert speaker_of(station, "a").path is None


def relays(station: Station) -> dict[int, tuple[int, ...]]:
    """The sessions that the gateway passes each stream on to."""
    declared = routes(station).items()
    return {stream: unpack_sessions(r.sessions) for stream, r in declared if r.sessions}


def test_who_is_at_the_gateway_hears_it_there_and_not_by_udp(station: Station) -> None:
    for name, port in (("a", 40_000), ("b", 40_001)):
        join(station, name, port=port)
    programme = on_air(station)
    stream = programme.streams[0].stream
    assert relays(station) == {}
    assert station.relayed(pack_sessions({number_of(station, "a"), 4711}))
    assert not station.relayed(pack_sessions({number_of(station, "a")}))
    assert relays(station) == {stream: (number_of(station, "a"),)}
    assert [port for _, port, _ in unpack_destinations(routes(station)[stream].destinations)] == [
        40_001
    ]
    assert station.relayed(pack_sessions(set()))
    assert relays(station) == {}
    assert len(unpack_destinations(routes(station)[stream].destinations)) == 2


def test_who_hears_from_the_group_is_not_sent_to_by_the_gateway(station: Station) -> None:
    join(station, "a", multicast=True)
    on_air(station)
    station.relayed(pack_sessions({number_of(station, "a")}))
    assert relays(station) == {}


def test_the_old_way_through_the_gateway_serves_until_the_new_session_is_there(
    station: Station,
) -> None:
    session = join(station, "a", port=None)
    old = number_of(station, "a")
    on_air(station)
    station.relayed(pack_sessions({old}))
    station.leave("a", session)
    join(station, "a", port=None)
    new = number_of(station, "a")
    for there, heard_as in (({old}, old), ({old, new}, new), ({new}, new)):
        station.relayed(pack_sessions(there))
        assert list(relays(station).values()) == [(heard_as,)]


def test_who_left_the_gateway_while_it_was_forgotten_is_not_there_when_it_is_remembered(
    station: Station,
) -> None:
    session = join(station, "a", port=None)
    on_air(station)
    station.relayed(pack_sessions({number_of(station, "a")}))
    station.leave("a", session)
    remember = station.forget("a")
    station.relayed(pack_sessions(set()))
    remember()
    assert relays(station) == {}


def test_every_way_outlives_control(station: Station) -> None:
    join(station, "a", port=40_000)
    join(station, "b", port=None)
    on_air(station)
    station.relayed(pack_sessions({number_of(station, "b")}))
    other = remembered(station)
    assert routes(other) == routes(station)
    assert other.opened(number_of(station, "a"), "192.0.2.1", 40_009)


def test_the_numbers_of_sessions_that_are_over_are_not_kept_for_ever(station: Station) -> None:
    for _ in range(3_000):
        station.leave("a", join(station, "a"))
    assert len(station._numbered) < 1_100
    assert station.opened(number_of(station, "a"), "192.0.2.1", 1)


# ------------------------------------------------------------------ sizes
def sizes(programmes: int) -> dict[str, int]:
    """Bytes of each message about so many programmes in three encodings and one in clear."""
    station = a_station()
    put_zone(station, "z", {"zone": "all"})
    station.zones.set_clear("z", clear=True)
    for name, delivery in (("a", "lan"), ("b", "wan"), ("c", "saver")):
        join(station, name, multicast=delivery == "lan", delivery=delivery)
    reports = []
    for number in range(programmes):
        ssrc = (1 << 32) - 4 * (number + 1)
        programme = on_air(station, replace(TO_CLEAR, inband_fec=True), ssrc=ssrc)
        (item,) = report_of(programme, ssrc=ssrc).programmes
        streams = tuple(replace(s, epochs=epochs_of(s.ssrc, 7, 8, 9)) for s in item.streams)
        reports.append(replace(item, streams=streams))
    report = ProducerReport("0123456789abcdef", tuple(reports))
    station.update(report, 0)
    told = station.listen("a", 1 << 40, CERTIFIER.certificate)
    assert len(told.streams) == programmes
    assert FROM_PRODUCER.decode(FROM_PRODUCER.encode(report)) == report
    assert TO_SPEAKER.decode(TO_SPEAKER.encode(told)) == told
    return {
        "Listen": len(TO_SPEAKER.encode(told)),
        "orders": len(TO_PRODUCER.encode(station.orders())),
        "report": len(FROM_PRODUCER.encode(report)),
    }


def test_all_there_may_be_fits_one_message_each_way() -> None:
    for what, size in sizes(MAX_PROGRAMMES).items():
        assert size < MAX_MESSAGE_BYTES, what


# ------------------------------------------------------------------ no key twice
STEPS = st.lists(st.sampled_from(["open", "rekey", "stop", "control dies", "producer dies", "say"]))


class Whole:
    """A station and its producer, whose lives end as a test likes; and every key there was."""

    def __init__(self) -> None:
        self._draw = self._counted()
        self.station = a_station()
        self.boots = 1
        self.seen: dict[tuple[bytes, int], tuple[int, int]] = {}
        self.serials: set[int] = set()
        self.bear_producer()

    def _counted(self) -> Any:
        count = itertools.count(1)

        def draw(size: int) -> bytes:
            # What is long is never the same again; SSRCs are alike now and then.
            return (next(count) % (7 if size <= 4 else 1 << 62)).to_bytes(size, "big")

        return draw

    def bear_producer(self) -> None:
        def build(order: ProgrammeOrder) -> ProducedProgramme:
            return ProducedProgramme(order, self._draw, lambda: 0.5, lambda _: None)

        self.registry = Registry("life", build)

    def act(self, step: str, now_ns: int) -> None:
        match step:
            case "open" if len(self.station.programmes) < 4:
                opened = self.station.open(TO_ALL, now_ns)
                fresh = {stream.serial for stream in opened.streams}
                assert fresh.isdisjoint(self.serials)
                self.serials |= fresh
            case "rekey":
                self.station.rekey_all()
            case "stop":
                for name in list(self.station.programmes)[:1]:
                    self.station.stop(name, "it was stopped", now_ns)
                self.station.expire(now_ns + 10 * S)
            case "control dies":
                self.boots += 1
                self.station = remembered(self.station, self.boots)
            case "producer dies":
                self.bear_producer()
            case _:
                pass

    def settle(self, now_ns: int) -> None:
        self.registry.declare(self.station.orders(), now_ns)
        report = self.registry.report(now_ns)
        self.station.update(report, now_ns)
        for item in report.programmes:
            for stream in item.streams:
                self.note(item, stream)

    def note(self, item: ProgrammeReport, stream: StreamReport) -> None:
        """One (key, SSRC) is one epoch of one life of one stream, for ever."""
        mine = self.station.programmes[item.programme]
        (serial,) = (s.serial for s in mine.streams if s.stream == stream.stream)
        for epoch in stream.epochs:
            life = hash((serial, stream.public)), epoch.number
            assert self.seen.setdefault((epoch.key, epoch.ssrc), life) == life


@given(STEPS)
def test_no_key_is_used_with_one_ssrc_twice_whatever_happens(steps: list[str]) -> None:
    whole = Whole()
    for second, step in enumerate(steps):
        whole.act(step, second * S)
        whole.settle(second * S)
