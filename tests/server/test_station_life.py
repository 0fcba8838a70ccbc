"""Whatever happens to a station in whatever order, it declares what follows from its state."""

import itertools
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.errors import NoSuchError
from server.processes.bus import StreamOrder, pack_sessions, unpack_sessions
from server.processes.routing import unpack_destinations
from server.programmes import LiveRequest, Programme
from server.station import NoGroupError, Station
from server.zones.definition import EVERYBODY
from tests.support.stations import (
    MS,
    S,
    a_station,
    join,
    listen,
    put_zone,
    remembered,
    report_of,
    routes,
)
from transport.control.delivery import DELIVERIES
from transport.control.messages import StreamSpec

NAMES = ("a", "b", "c", "d")
ZONES = ("y", "z")
NETWORKS = tuple(DELIVERIES)
# An address, the port of RTP and that of RTCP.
To = tuple[str, int, int]
# More than any programme has streams.
_STREAMS = 8


def some(words: tuple[str, ...], fewest: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(words), min_size=fewest, max_size=3).map(tuple)


TARGETS = st.tuples(some((*NAMES, EVERYBODY)), some((*ZONES, EVERYBODY))).filter(any)


class StationLife(RuleBasedStateMachine):
    """Everybody is told exactly what concerns them, and sent it."""

    def __init__(self) -> None:
        super().__init__()
        self.station = a_station("239.192.76.0/29")
        self.now_ns = 0
        self.ssrcs = itertools.count(_STREAMS, _STREAMS)
        self.sessions: dict[str, object] = {}
        self.zones: dict[str, tuple[str, ...]] = {}
        # The model: what was asked for, what the producer has said of it, and since when it waits
        # or has ended; what is live is in neither of the last two.
        self.asked: dict[str, LiveRequest] = {}
        self.numbered: dict[str, int] = {}
        self.waiting: dict[str, int] = {}
        self.ended: dict[str, int] = {}

    # ------------------------------------------------------------- what happens
    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """With something to work on: or most of what is tried would name who is not there."""
        for name in NAMES[:2]:
            self.join(name, data.draw(st.booleans()), data.draw(st.sampled_from(NETWORKS)))
        self.define(data, ZONES[0])
        self.set_clear(ZONES[0], data.draw(st.booleans()))
        self.open(data.draw(TARGETS), begun=True)

    @rule(
        name=st.sampled_from(NAMES),
        multicast=st.booleans(),
        delivery=st.sampled_from(NETWORKS),
    )
    def join(self, name: str, multicast: bool, delivery: str) -> None:
        self.now_ns += 4 * S  # longer than anybody holds a name
        self._forget()
        self.sessions[name] = join(
            self.station,
            name,
            multicast=multicast and DELIVERIES[delivery].may_multicast,
            port=50_000 + NAMES.index(name),
            delivery=delivery,
            now_ns=self.now_ns,
        )

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        self.station.leave(name, self.sessions.pop(name, None))

    @precondition(lambda self: bool(set(self.station.speakers) - set(self.sessions)))
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        offline = sorted(set(self.station.speakers) - set(self.sessions))
        self.station.forget(data.draw(st.sampled_from(offline)))

    @precondition(lambda self: self.station.speakers)
    @rule(data=st.data(), zone=st.sampled_from(ZONES))
    def define(self, data: st.DataObject, zone: str) -> None:
        members = data.draw(some(tuple(sorted(self.station.speakers)), fewest=1))
        put_zone(self.station, zone, {"speakers": list(members)})
        self.zones[zone] = members

    @precondition(lambda self: self.zones)
    @rule(zone=st.sampled_from(ZONES), clear=st.booleans())
    def set_clear(self, zone: str, clear: bool) -> None:
        if zone in self.zones:
            self.station.zones.set_clear(zone, clear=clear)

    @precondition(lambda self: self.station.speakers)
    @rule(data=st.data(), clear=st.booleans())
    def listen_in_clear(self, data: st.DataObject, clear: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.station.speakers)))
        changed = replace(self.station.directory.endpoint(name), clear=clear)
        self.station.directory.put_endpoint(changed)

    @precondition(lambda self: self.station.speakers)
    @rule(data=st.data(), opened=st.booleans())
    def open_or_close_a_path(self, data: st.DataObject, opened: bool) -> None:
        speaker = self.station.speakers[data.draw(st.sampled_from(sorted(self.station.speakers)))]
        if opened:
            port = 60_000 + NAMES.index(speaker.name)
            self.station.opened(speaker.session_number, "192.0.2.7", port)
        else:
            self.station.closed(speaker.path_number)

    @precondition(lambda self: self.station.speakers)
    @rule(data=st.data())
    def come_to_the_gateway(self, data: st.DataObject) -> None:
        names = data.draw(st.sets(st.sampled_from(sorted(self.station.speakers))))
        numbers = [self.station.speakers[name].session_number for name in names]
        self.station.relayed(pack_sessions(numbers))

    @rule()
    def rekey(self) -> None:
        self.station.rekey_all()

    @rule(whom=TARGETS, begun=st.booleans())
    def open(self, whom: tuple[tuple[str, ...], tuple[str, ...]], *, begun: bool) -> None:
        to, zones = whom
        known = {*to} <= {*self.station.speakers, EVERYBODY} and {*zones} <= {
            *self.zones,
            EVERYBODY,
        }
        request = LiveRequest(to, zones)
        try:
            programme = self.station.open(request, self.now_ns)
        except NoSuchError:
            assert not known
        except NoGroupError:
            assert len(self.asked) == 8
        else:
            assert known
            assert len(self.asked) < 8
            self.asked[programme.name] = request
            self.waiting[programme.name] = self.now_ns
            if begun:
                self._hear(programme.name, "live")

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), state=st.sampled_from(["waiting", "live", "ended"]))
    def report(self, data: st.DataObject, state: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.asked)))
        if name not in self.ended:
            self._hear(name, state)

    def _hear(self, name: str, state: str) -> None:
        ssrc = next(self.ssrcs)
        self.numbered[name] = ssrc
        self.waiting.pop(name, None)
        if state != "live":
            (self.waiting if state == "waiting" else self.ended)[name] = self.now_ns
        self.station.update(report_of(self.station.programmes[name], state, ssrc=ssrc), self.now_ns)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.asked)))
        self.station.stop(name, "it was stopped", self.now_ns)
        self.ended.setdefault(name, self.now_ns)
        self.waiting.pop(name, None)

    @rule(ms=st.one_of(st.integers(1, 1_400), st.just(16_000)))
    def pass_time(self, ms: int) -> None:
        self.now_ns += ms * MS
        self._forget()

    def _forget(self) -> None:
        self.station.expire(self.now_ns)
        for name in list(self.asked):
            heard_out = self.now_ns - self.ended.get(name, self.now_ns) > 1_300 * MS
            unused = self.now_ns - self.waiting.get(name, self.now_ns) > 15 * S
            assert (name in self.station.programmes) is not (heard_out or unused)
            if heard_out or unused:
                del self.asked[name]

    # ------------------------------------------------------------- what follows
    def _meant(self, request: LiveRequest) -> set[str]:
        """Whom a request addresses now."""
        members = {*request.to} | {n for z in request.zones for n in self.zones.get(z, ())}
        everybody = EVERYBODY in (*request.to, *request.zones)
        return {*self.station.speakers} if everybody else members & {*self.station.speakers}

    def _order(self, programme: Programme, spec: StreamSpec) -> StreamOrder:
        """The encoding that a loudspeaker was told of, whether sealed or its twin in clear."""
        known_by = spec.ssrc if spec.seal is not None else spec.ssrc ^ 1 << 31
        return programme.streams[(known_by - self.numbered[programme.name]) // 2]

    def _streams(self) -> list[tuple[str, Programme, StreamSpec]]:
        """Every loudspeaker, what it listens to, and by which stream."""
        return [
            (name, self.station.programmes[spec.programme], spec)
            for name in self.station.speakers
            for spec in listen(self.station, name).streams
        ]

    @invariant()
    def everybody_listens_to_exactly_what_addresses_them(self) -> None:
        heard = [(name, programme.name) for name, programme, _ in self._streams()]
        meant = {
            (name, programme)
            for programme, request in self.asked.items()
            if programme in self.numbered
            for name in self._meant(request)
        }
        assert set(heard) == meant
        assert len(heard) == len(meant)

    @invariant()
    def everybody_knows_the_newest_numbers_of_a_stream_that_suits_its_network(self) -> None:
        for name, programme, spec in self._streams():
            assert self._order(programme, spec).frame_ms == spec.frame_ms
            wanted = DELIVERIES[self.station.directory.endpoints[name].delivery].frame_ms
            nearest = min(abs(ms - wanted) for ms in programme.plan.frames_ms)
            assert abs(spec.frame_ms - wanted) == nearest

    @invariant()
    def everybody_is_in_step_but_those_whose_network_is_too_slow(self) -> None:
        for name, programme, spec in self._streams():
            asked = DELIVERIES[self.station.directory.endpoints[name].delivery].playout_delay_ms
            assert spec.playout_delay_ms == max(asked, programme.plan.playout_delay_ms)

    @invariant()
    def sound_goes_where_somebody_listens(self) -> None:
        declared = routes(self.station)
        streams = [
            stream
            for name in self.asked
            if name in self.numbered
            for stream in self.station.programmes[name].streams
        ]
        twins = {stream.clear for stream in streams if stream.clear is not None}
        assert set(declared) == {stream.stream for stream in streams} | twins
        for _, programme, spec in self._streams():
            if spec.group is not None:
                order = self._order(programme, spec)
                number = order.stream if spec.seal is not None else order.clear
                assert number is not None
                to = {d[:2] for d in unpack_destinations(declared[number].destinations)}
                assert (spec.group, spec.port) in to

    @invariant()
    def what_goes_to_one_alone_goes_by_its_one_way_and_to_nobody_in_vain(self) -> None:
        sent = [
            (stream, to)
            for stream, route in routes(self.station).items()
            for to in unpack_destinations(route.destinations)
            if not is_group(to)
        ]
        passed_on = [
            (stream, session)
            for stream, route in routes(self.station).items()
            for session in unpack_sessions(route.sessions)
        ]
        wanted: list[tuple[int, To]] = []
        wanted_there: list[tuple[int, int]] = []
        for name, programme, spec in self._streams():
            speaker, number = self.station.speakers[name], self._order(programme, spec).stream
            if spec.group is None and speaker.relayed:
                wanted_there.append((number, speaker.relay_number))
            elif spec.group is None and speaker.path is not None:
                address, port = speaker.path
                wanted.append((number, (address, port, port)))
        assert sorted(sent) == sorted(wanted)
        assert sorted(passed_on) == sorted(wanted_there)

    @invariant()
    def nobody_hears_in_clear_who_was_not_told_to(self) -> None:
        for name, programme, spec in self._streams():
            if spec.seal is None:
                assert self.station.directory.endpoints[name].clear
                assert programme.clear

    @invariant()
    def groups_are_shared_by_nobody(self) -> None:
        groups = [programme.group for programme in self.station.programmes.values()]
        assert len(set(groups)) == len(groups)

    @invariant()
    def what_has_not_ended_is_ordered(self) -> None:
        assert {order.programme for order in self.station.orders().programmes} == {
            name for name in self.asked if name not in self.ended
        }

    @invariant()
    def a_station_restored_from_its_memory_declares_the_same(self) -> None:
        other = remembered(self.station)
        assert other.orders() == self.station.orders()
        assert sorted_routes(other) == sorted_routes(self.station)
        for name in self.station.speakers:
            assert listen(other, name) == listen(self.station, name)


def is_group(to: To) -> bool:
    return to[0].startswith("239.")


def sorted_routes(station: Station) -> dict[int, tuple[list[To], bytes, str | None]]:
    return {
        stream: (sorted(unpack_destinations(route.destinations)), route.sessions, route.group)
        for stream, route in routes(station).items()
    }


TestStationLife = StationLife.TestCase
TestStationLife.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
