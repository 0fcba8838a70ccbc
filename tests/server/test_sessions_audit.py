"""What loudspeakers do for good, and what they are refused, stands in the audit log."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.sessions import Peer, Room
from transport.control.messages import Enrolled, Refused
from transport.security.keys import shown_fingerprint

Play = Callable[[Callable[[Room], Coroutine[Any, Any, None]]], None]


def rows(room: Room, what: str) -> list[tuple[str, str, dict[str, Any], str]]:
    """Who, from where, on what and why of each row of this kind."""
    found = [row.texts for row in room.store.audit_rows(0, 1 << 52, 1000)]
    return [(t[1], t[2], json.loads(t[4]), t[5]) for t in found if t[3] == what]


def test_who_uses_a_code_is_written_down_with_its_key_and_address(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        secret = await room.code("market")
        number = room.enrolment.codes[0].number.hex()
        peer, word = await room.try_code(secret, "new-1f2e")
        assert word == Enrolled("market")
        client: Any = peer.client
        ((who, where, on, _),) = rows(room, "speaker.enrol")
        assert (who, where) == ("loudspeaker market", client.host)
        assert on == {
            "speaker": "market",
            "unit": "Tân Phú",
            "key": shown_fingerprint(peer.key.public),
            "code": number,
        }
        ((_, _, issued, _),) = rows(room, "code.issue")
        assert issued["names"] == ["market"]
        assert secret.hex() not in str(room.store.audit_rows(0, 99, 99))

    play_sessions(scenario)


def test_who_is_not_enrolled_or_has_a_wrong_code_is_written_down_once_a_minute(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        reasons = set()
        for _ in range(5):
            _, word = await room.try_code(bytes(16), "new-1f2e")
            assert isinstance(word, Refused)
            reasons.add(word.reason)
        await room.keeper.do(lambda: None)
        ((who, where, on, why),) = rows(room, "refused")
        assert (who, on) == ("loudspeaker new-1f2e", {"asked": "session"})
        assert where
        assert reasons == {why}

    play_sessions(scenario)


def test_who_shows_another_s_key_is_written_down(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer(name="market")
        room.connect(peer)
        hello = peer.hello()
        thief = Peer(name="thief")
        peer.key = thief.key  # it signs with its own
        await peer.prove(hello)
        await peer.closed.wait()
        await room.keeper.do(lambda: None)
        ((who, _, _, why),) = rows(room, "refused")
        assert who == "a loudspeaker"
        assert why == "malformed: signature"

    play_sessions(scenario)
