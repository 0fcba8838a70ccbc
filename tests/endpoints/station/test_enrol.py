"""Becoming a station's loudspeaker, against a station of the test's making."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from endpoints.station.enrol import Enrolment, Wish, is_known
from endpoints.station.session import RefusedForGood
from endpoints.station.store import KnownStation, SpeakerState, SpeakerStore
from tests.support.chain import GENERATION, Drawn
from tests.support.station import (
    ROOT,
    Guest,
    Station,
    Talk,
    refuse,
    running_station,
    welcome_and_listen,
)
from tests.support.visitor import BELOW_ONE, SEED, Visitor, at_once, store_of
from transport.control.address import StationAddress
from transport.control.messages import VERSION, Enrol, Enrolled, Listen, Pending, Refused
from transport.security.certificates import StationCertificate
from transport.security.enrolment import EnrolmentCode
from transport.security.keys import SigningKey, fingerprint, shown_fingerprint

WISH = Wish("would like", multicast=True, delivery="wifi")
NEW_SEED = b"new" + bytes(29)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.005
    return mock_clock


def fresh(folder: Path) -> SpeakerStore:
    return SpeakerStore.open(folder / "state.json", lambda _: SEED, at_once)


class Applicant:
    """An enrolment and what it said."""

    def __init__(
        self,
        store: SpeakerStore,
        code: EnrolmentCode,
        *,
        server: StationAddress | None = None,
        seed: bytes | None = None,
    ) -> None:
        self.said: list[str] = []
        self.enrolment = Enrolment(
            store,
            code,
            WISH,
            lambda: BELOW_ONE,
            Drawn("applicant"),
            self.said.append,
            server=server,
            seed=seed,
        )

    async def run_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.enrolment.run()


def enrol_as(name: str, *, approved_after_s: float | None = None) -> Talk:
    """What a station does with a code that is right."""

    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        if approved_after_s is not None:
            await guest.say(Pending("a person is asked"))
            await trio.sleep(approved_after_s)
        await guest.say(Enrolled(name))
        await guest.connection.wait_closed()

    return talk


@pytest.mark.trio
async def test_with_a_code_it_learns_its_name_and_its_station(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station(enrol_as("Thôn 3")) as station:
        store = fresh(tmp_path)
        applicant = Applicant(store, station.code)
        await applicant.run_for(60)
    (word,) = station.enrols
    key = SigningKey(SEED)
    assert word == Enrol(
        VERSION,
        "would like",
        key.public,
        word.nonce,
        station.code.number,
        word.mac,
        multicast=True,
        delivery="wifi",
    )
    known = KnownStation(station.code.server, ROOT.public, GENERATION)
    assert SpeakerState.from_json(store.path.read_bytes()) == SpeakerState(SEED, "Thôn 3", known)
    assert applicant.said == [f"enrolled as Thôn 3 at {station.code.server.text}"]
    assert is_known(store.state, station.code)


@pytest.mark.trio
async def test_until_a_person_approves_it_waits_for_as_long_as_that_takes(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station(enrol_as("a", approved_after_s=3_600)) as station:
        store = fresh(tmp_path)
        applicant = Applicant(store, station.code)
        await applicant.run_for(7_200)
    assert len(station.enrols) == 1
    assert applicant.said == [
        (
            "waiting for approval at the station; this loudspeaker's key is "
            f"{shown_fingerprint(SigningKey(SEED).public)}"
        ),
        f"enrolled as a at {station.code.server.text}",
    ]
    assert trio.current_time() == pytest.approx(3_600, abs=10)


@pytest.mark.trio
async def test_enrolled_it_joins_as_who_it_has_become(world: MockClock, tmp_path: Path) -> None:
    async with running_station(enrol_as("Thôn 3")) as station:
        store = fresh(tmp_path)
        await Applicant(store, station.code).run_for(10)
        station.talk = welcome_and_listen
        visitor = Visitor(store)
        await visitor.run_for(1)
    assert station.hellos[0].key == SigningKey(SEED).public
    assert len(visitor.speaker.welcomes) == 1


@pytest.mark.trio
async def test_it_goes_where_it_is_told_to_and_remembers_that(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station(enrol_as("a")) as station:
        store = fresh(tmp_path)
        code = replace(station.code, server=StationAddress("192.0.2.1", 7460))
        await Applicant(store, code, server=station.code.server).run_for(10)
    assert store.state.station is not None
    assert store.state.station.address == station.code.server


@pytest.mark.trio
async def test_a_station_that_is_not_there_yet_is_waited_for(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station() as gone:
        code = gone.code
    store = fresh(tmp_path)
    applicant = Applicant(store, code)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(applicant.run_for, 60)
        await trio.sleep(10)
        async with running_station(enrol_as("a"), code.server.port):
            await trio.sleep(10)
    assert store.state.enrolled
    assert applicant.said[0] == (
        f"cannot enrol at {code.server.text}: Connection refused; trying again"
    )


@pytest.mark.trio
async def test_who_is_lost_while_it_waits_comes_again_with_the_same_key(
    world: MockClock, tmp_path: Path
) -> None:
    async def lose(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(Pending("wait"))
        await guest.connection.aclose()
        if len(station.enrols) == 3:
            station.talk = enrol_as("a")

    async with running_station(lose) as station:
        store = fresh(tmp_path)
        await Applicant(store, station.code).run_for(60)
    assert {word.key for word in station.enrols} == {SigningKey(SEED).public}
    assert len({word.mac for word in station.enrols}) == 4
    assert store.state.enrolled


# ------------------------------------------------------------------ no
async def refused(station: Station, store: SpeakerStore, code: EnrolmentCode | None = None) -> str:
    with pytest.raises(RefusedForGood) as error:
        await Applicant(store, code or station.code).enrolment.run()
    return str(error.value)


@pytest.mark.trio
@pytest.mark.parametrize("why", ["this code was used", "this code is too old"])
async def test_a_code_that_is_good_no_more_ends_it_in_one_line(
    world: MockClock, tmp_path: Path, why: str
) -> None:
    async with running_station(refuse(why, final=True)) as station:
        store = fresh(tmp_path)
        assert await refused(station, store) == why
    assert not store.state.enrolled


@pytest.mark.trio
async def test_at_a_station_that_did_not_give_the_code_nothing_is_said(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station(enrol_as("a")) as station:
        other = replace(station.code, root_fingerprint=fingerprint(b"other"))
        line = await refused(station, fresh(tmp_path), other)
    assert line.startswith(f"the station at {station.code.server.text} is not the one that gave")
    assert station.enrols == []


@pytest.mark.trio
async def test_a_station_that_is_busy_is_asked_again(world: MockClock, tmp_path: Path) -> None:
    async with running_station(refuse("too many at once", final=False)) as station:
        applicant = Applicant(fresh(tmp_path), station.code)
        await applicant.run_for(10)
    assert len(station.enrols) > 3
    assert applicant.said == ["too many at once; trying again"]


@pytest.mark.trio
@pytest.mark.parametrize("word", [Enrolled("mine"), Refused("no", final=True), Pending("wait")])
async def test_what_the_station_did_not_sign_changes_nothing(
    world: MockClock, tmp_path: Path, word: Enrolled | Refused | Pending
) -> None:
    """Somebody in between who has a key of his own, and calls it the station's."""
    thief = SigningKey(b"thief" + bytes(27))

    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        assert guest.speech is not None
        guest.speech._station = thief
        await guest.say(word)
        await guest.connection.wait_closed()

    async with running_station(talk) as station:
        store = fresh(tmp_path)
        applicant = Applicant(store, station.code)
        await applicant.run_for(5)
    assert store.state == SpeakerState(SEED)
    assert len(station.enrols) > 2
    assert applicant.said == [
        (
            f"cannot enrol at {station.code.server.text}: something was said that the station did "
            "not sign; trying again"
        )
    ]


@pytest.mark.trio
async def test_orders_are_no_answer_to_a_code(world: MockClock, tmp_path: Path) -> None:
    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(Listen(1, ()))

    async with running_station(talk) as station:
        applicant = Applicant(fresh(tmp_path), station.code)
        await applicant.run_for(3)
    assert applicant.said[0].endswith("message_order; trying again")


# ------------------------------------------------------------------ anew
@pytest.mark.trio
async def test_with_a_new_key_the_numbers_of_its_station_go_on_rising(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station(enrol_as("b")) as station:
        store = store_of(tmp_path, station.port, generation=2, session_number=41)
        await Applicant(store, station.code, seed=NEW_SEED).run_for(10)
    assert store.state == SpeakerState(
        NEW_SEED, "b", KnownStation(station.code.server, ROOT.public, GENERATION, 41)
    )


@pytest.mark.trio
async def test_an_old_key_of_the_station_enrols_nobody_who_has_seen_a_newer(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station(enrol_as("b")) as station:
        store = store_of(tmp_path, station.port, generation=GENERATION + 1)
        await Applicant(store, station.code, seed=NEW_SEED).run_for(3)
    assert station.enrols == []
    assert store.state.name == "a"


@pytest.mark.trio
async def test_a_new_key_takes_the_olds_place_only_when_the_code_was_taken(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station(refuse("this code was used", final=True)) as station:
        store = store_of(tmp_path, station.port)
        with pytest.raises(RefusedForGood):
            await Applicant(store, station.code, seed=NEW_SEED).enrolment.run()
    assert (store.state.seed, store.state.enrolled) == (SEED, True)


@pytest.mark.trio
async def test_a_new_key_that_waits_for_approval_outlives_a_restart(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station(enrol_as("b", approved_after_s=100)) as station:
        store = store_of(tmp_path, station.port, session_number=41)
        await Applicant(store, station.code, seed=NEW_SEED).run_for(10)
        store.close()
        again = SpeakerStore.open(tmp_path / "state.json", aside=at_once)
        assert not is_known(again.state, station.code)
        await Applicant(again, station.code).run_for(200)
    assert {word.key for word in station.enrols} == {SigningKey(NEW_SEED).public}
    assert again.state.station is not None
    assert (again.state.name, again.state.station.session_number) == ("b", 41)


@pytest.mark.trio
async def test_another_station_begins_with_numbers_of_its_own(
    world: MockClock, tmp_path: Path
) -> None:
    root = SigningKey(b"other" + bytes(27))
    async with running_station(enrol_as("b")) as station:
        station.certificate = StationCertificate.issue(root, 1, station.key.public)
        store = store_of(tmp_path, station.port, session_number=41)
        code = replace(station.code, root_fingerprint=fingerprint(root.public))
        assert not is_known(store.state, code)
        await Applicant(store, code).run_for(10)
    known = KnownStation(station.code.server, root.public, 1, 0)
    assert store.state == SpeakerState(SEED, "b", known)
