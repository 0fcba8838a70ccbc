"""Only the station's own words, said to this loudspeaker, here and now, are obeyed.

The station is one of the test's making, with real TLS on loopback; the loudspeaker's side is the
real one. The attacker has what TLS would hide from him: all that was ever said, and the station's
TLS key. What he has not is the key that signs.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from endpoints.app import Loudspeaker, SpeakerSettings
from endpoints.outputs.virtual import NullSink, VirtualDevice
from endpoints.simulate import Crystal, Simulation
from endpoints.station.session import ControlSession
from endpoints.station.store import SpeakerStore
from tests.support.chain import Drawn
from tests.support.station import (
    SECOND,
    Guest,
    Station,
    Talk,
    TrioClock,
    listen,
    running_station,
    true_ns,
)
from tests.support.visitor import Visitor, at_once, store_of
from transport.control.messages import (
    TO_SPEAKER,
    Adjust,
    Command,
    Done,
    Listen,
    Refused,
    StreamSpec,
)
from transport.security.keys import SigningKey

TONE = Command(1, "tone", 1.0)
SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0)
NOW_NS = 1_790_000_000 * SECOND


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.005
    return mock_clock


@dataclass
class Tape:
    """What the station said in one session, as it was on the wire."""

    frames: list[bytes] = field(default_factory=list)

    @property
    def command(self) -> bytes:
        return self.frames[-1]

    def record(self) -> Talk:
        """Identity, welcome, and one command that is obeyed."""

        async def talk(station: Station, guest: Guest) -> None:
            await guest.greet()
            await guest.say(station.welcome())
            await guest.say(TONE)
            self.frames = list(guest.sent)
            await listen(station, guest)

        return talk

    def replay(self) -> Talk:
        """All of it again, whoever has come."""

        async def talk(station: Station, guest: Guest) -> None:
            await guest.send(self.frames[0])
            await guest.connection.recv()
            for frame in self.frames[1:]:
                await guest.send(frame)
            await listen(station, guest)

        return talk


def after_a_welcome(*frames: bytes | Callable[[Guest], bytes]) -> Talk:
    """A true session of the station's, into which these are put."""

    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(station.welcome())
        for frame in frames:
            await guest.send(frame if isinstance(frame, bytes) else frame(guest))
        await listen(station, guest)

    return talk


async def recorded(station: Station, folder: Path) -> Tape:
    """A session of a loudspeaker's, which has obeyed; it is switched off then."""
    tape = Tape()
    station.talk = tape.record()
    store = store_of(folder, station.port)
    visitor = Visitor(store, draw=Drawn("nonces"))
    await visitor.run_for(0.2)
    assert visitor.speaker.commands == [TONE]
    store.close()
    return tape


def reopened(folder: Path) -> SpeakerStore:
    """All that is left of a loudspeaker that was switched off."""
    return SpeakerStore.open(folder / "state.json", aside=at_once)


def restarted(folder: Path, *, nonces: str = "later") -> Visitor:
    """The same loudspeaker, switched on again."""
    return Visitor(reopened(folder), draw=Drawn(nonces))


# ------------------------------------------------------------------ S1: signed
@pytest.mark.trio
async def test_S1_a_captured_command_with_one_bit_flipped_is_refused(  # noqa: N802
    world: MockClock, tmp_path: Path
) -> None:
    """Each seventh bit, of the number, the signature and the body.

    Seen to fail with `VerifyKey.verify` taken out of `Ear.hear`.
    """
    bits = itertools.count(0, 7)
    tried, whole = 0, trio.Event()

    def flipped(guest: Guest) -> bytes:
        nonlocal tried
        frame = bytearray(guest.frame(TONE))
        bit = next(bits)
        if bit < 8 * len(frame):
            tried += 1
            frame[bit // 8] ^= 1 << bit % 8
        else:
            whole.set()
        return bytes(frame)

    async with running_station(after_a_welcome(flipped)) as station, trio.open_nursery() as nursery:
        visitor = Visitor(store_of(tmp_path, station.port))
        nursery.start_soon(visitor.session.run)
        with trio.fail_after(600):
            await whole.wait()
            await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    assert tried > 100
    assert visitor.speaker.commands == [TONE]  # the one that was left as it was
    assert visitor.session.refused.total() == tried


@pytest.mark.trio
@pytest.mark.parametrize(
    "word",
    [
        TONE,
        Command(1, "restart"),
        Adjust(0, muted=True),
        Listen(1, (SPEC,)),
        Refused("go", final=True),
    ],
    ids=lambda word: type(word).__name__,
)
@pytest.mark.parametrize("forgery", ["bare", "zeros", "another key", "too short", "too long"])
async def test_S1_whatever_changes_a_state_and_is_not_signed_by_the_station_is_refused(  # noqa: N802
    world: MockClock, tmp_path: Path, word: object, forgery: str
) -> None:
    """Seen to fail ("zeros", "another key") with `VerifyKey.verify` taken out."""

    def forged(guest: Guest) -> bytes:
        body = TO_SPEAKER.encode(word)
        assert guest.speech is not None
        if forgery == "bare":
            return body
        if forgery == "zeros":
            return (2).to_bytes(8) + bytes(64) + body
        if forgery == "another key":
            guest.speech._station = SigningKey(b"thief" + bytes(27))
            return guest.frame(word)
        frame = guest.frame(word)
        return frame[:-1] if forgery == "too short" else frame + b"\0"

    async with running_station(after_a_welcome(forged)) as station:
        visitor = Visitor(store_of(tmp_path, station.port))
        await visitor.run_for(2)
    speaker = visitor.speaker
    assert len(speaker.welcomes) > 2
    assert not speaker.commands + speaker.adjusts + speaker.listens
    assert visitor.session.refused.total() == len(speaker.welcomes)


@pytest.mark.trio
async def test_S1_a_welcome_that_the_station_did_not_sign_is_refused(  # noqa: N802
    world: MockClock, tmp_path: Path
) -> None:
    """Seen to fail with `VerifyKey.verify` taken out of `Ear.hear`."""

    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        assert guest.speech is not None
        guest.speech._station = SigningKey(b"thief" + bytes(27))
        await guest.say(station.welcome())
        await guest.say(TONE)
        await listen(station, guest)

    async with running_station(talk) as station:
        visitor = Visitor(store_of(tmp_path, station.port))
        await visitor.run_for(2)
    assert not visitor.speaker.welcomes
    assert not visitor.speaker.commands
    assert visitor.store.state.station is not None
    assert visitor.store.state.station.session_number == 0


# ------------------------------------------------------------------ S2: not again, nor elsewhere
@pytest.mark.trio
async def test_S2_a_captured_command_replayed_after_a_second_is_refused(  # noqa: N802
    world: MockClock, tmp_path: Path
) -> None:
    """In the session in which it was said.

    Seen to fail with the comparison of the number taken out of `Ear.hear`.
    """

    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(station.welcome())
        await guest.say(TONE)
        await trio.sleep(1)
        await guest.send(guest.sent[-1])
        await listen(station, guest)

    async with running_station(talk) as station:
        visitor = Visitor(store_of(tmp_path, station.port))
        await visitor.run_for(1.2)
    assert visitor.speaker.commands == [TONE]
    assert visitor.session.refused == {"message_number": 1}


@pytest.mark.trio
async def test_S2_commands_in_another_order_or_with_one_left_out_are_refused(  # noqa: N802
    world: MockClock, tmp_path: Path
) -> None:
    """Seen to fail with the comparison of the number taken out of `Ear.hear`."""

    def second(guest: Guest) -> bytes:
        guest.frame(TONE)  # said, and kept back
        return guest.frame(Command(2, "identify"))

    async with running_station(after_a_welcome(second)) as station:
        visitor = Visitor(store_of(tmp_path, station.port))
        await visitor.run_for(0.2)
    assert visitor.speaker.commands == []
    assert visitor.session.refused == {"message_number": 1}


@pytest.mark.trio
async def test_S2_a_captured_command_is_refused_in_a_new_session_after_a_restart(  # noqa: N802
    world: MockClock, tmp_path: Path
) -> None:
    """It has the number that comes next.

    Seen to fail with both nonces taken out of what `Speech` and `Ear` sign.
    """
    async with running_station() as station:
        tape = await recorded(station, tmp_path)
        station.talk = after_a_welcome(tape.command)
        visitor = restarted(tmp_path)
        await visitor.run_for(2)
    assert len(visitor.speaker.welcomes) > 2
    assert visitor.speaker.commands == []
    assert set(visitor.session.refused) == {"signature"}


@pytest.mark.trio
async def test_S2_a_whole_session_played_back_after_a_restart_is_refused(  # noqa: N802
    world: MockClock, tmp_path: Path
) -> None:
    """To a machine that has no randomness when it starts, and draws the nonce it drew before.

    Seen to fail with the comparison of the session's number taken out of `ControlSession._accept`.
    """
    async with running_station() as station:
        tape = await recorded(station, tmp_path)
        station.talk = tape.replay()
        visitor = restarted(tmp_path, nonces="nonces")
        await visitor.run_for(0.2)
    assert visitor.speaker.welcomes == []
    assert visitor.speaker.commands == []
    assert visitor.session.refused == {"session_number": 1}


@pytest.mark.trio
async def test_S2_a_whole_session_played_back_to_another_loudspeaker_is_refused(  # noqa: N802
    world: MockClock, tmp_path: Path
) -> None:
    """To one that draws the very same nonce.

    Seen to fail with the loudspeaker's key taken out of what `Speech` and `Ear` sign.
    """
    async with running_station() as station:
        tape = await recorded(station, tmp_path / "one")
        station.talk = tape.replay()
        other = store_of(tmp_path / "other", station.port, name="b", seed=b"other" + bytes(27))
        visitor = Visitor(other, draw=Drawn("nonces"))
        await visitor.run_for(0.2)
    assert visitor.speaker.welcomes == []
    assert visitor.speaker.commands == []
    assert visitor.session.refused == {"signature": 1}


# ------------------------------------------------------------------ S2: whatever the clock shows
async def live(
    store: SpeakerStore, seconds: float, wall_ns: int, monkeypatch: pytest.MonkeyPatch
) -> ControlSession:
    """A whole loudspeaker's life on a machine whose clocks begin at `wall_ns`; its session."""
    clock = TrioClock(wall_ns - true_ns())
    monkeypatch.setattr(time, "time_ns", clock.now_ns)
    monkeypatch.setattr(time, "time", lambda: clock.now_ns() / SECOND)
    card = VirtualDevice(
        NullSink(),
        Crystal(Simulation()),
        true_ns,
        lambda true: true + clock.ahead_ns,
        period_samples=4_800,
        buffer_samples=9_600,
    )
    loudspeaker = Loudspeaker(SpeakerSettings(multicast=False), store, clock, card, lambda _: None)
    session = loudspeaker._session
    session._draw = Drawn("nonces")  # it has no better randomness than it had the last time
    with trio.move_on_after(seconds):
        await loudspeaker.run()
    store.close()
    return session


@pytest.mark.trio
@pytest.mark.parametrize(
    "moved_ns",
    [300 * SECOND, -300 * SECOND, -NOW_NS],
    ids=["5 min ahead", "5 min behind", "a cold boot in 1970"],
)
async def test_S2_whatever_the_clock_shows_after_a_restart_what_was_said_before_is_refused(  # noqa: N802
    world: MockClock, tmp_path: Path, moved_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the station says now is obeyed: freshness comes from counters, not from clocks.

    Seen to fail, at each of the three times, with the comparison of the session's number taken out
    of `ControlSession._accept`: then the whole session that is played back is obeyed. The command
    alone in a true session is obeyed with both nonces taken out of what is signed.
    """
    async with running_station() as station:
        tape = Tape()
        station.talk = tape.record()
        session = await live(store_of(tmp_path, station.port), 1, NOW_NS, monkeypatch)
        assert station.answers == [Done(TONE.id)]
        assert not session.refused

        station.talk = tape.replay()
        session = await live(reopened(tmp_path), 1, NOW_NS + moved_ns, monkeypatch)
        assert set(session.refused) == {"session_number", "signature"}
        station.talk = after_a_welcome(tape.command)
        session = await live(reopened(tmp_path), 1, NOW_NS + moved_ns, monkeypatch)
        assert set(session.refused) == {"signature"}
        assert station.answers == [Done(TONE.id)]

        again = Tape()
        station.talk = again.record()
        session = await live(reopened(tmp_path), 1, NOW_NS + moved_ns, monkeypatch)
        assert station.answers == [Done(TONE.id)] * 2
        assert not session.refused
