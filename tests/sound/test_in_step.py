"""Two loudspeaker processes on a sound server's cards, in one recording.

ALSA guesses at the sound server's latency: the first ten seconds of a stream may be off by some
milliseconds, and on a busy machine it leaps again later. So in step is ten seconds on end, which
libpulse has to give at once and ALSA within a minute, to another limit.
"""

import pytest

from bench.processes import wait_until
from tests.support.sound import Duet

pytestmark = pytest.mark.realtime

LIMIT_US = 1_000
SETTLES_S = 2.0
OPTIONS = ("--buffer-ms", "40")
GONE = "loa speaker: the sound card is gone: its stream was ended; silence until it returns"
BACK = "loa speaker: the sound card is back and plays"
OUTPUTS = pytest.mark.parametrize(
    ("output", "limit_us", "within_s"),
    [("pulse", LIMIT_US, 10), ("device:pulse", 3 * LIMIT_US, 60)],
    ids=["pulse", "portaudio"],
)


def sounds_throughout(duet: Duet, name: str, begin_s: float, end_s: float) -> bool:
    """Speech has pauses, but none of two seconds."""
    return all(duet.peak(name, at, at + 2) > 0.01 for at in range(int(begin_s), int(end_s) - 2))


@OUTPUTS
def test_two_loudspeakers_agree(duet: Duet, output: str, limit_us: float, within_s: float) -> None:
    duet.start(output, *OPTIONS)
    with duet.recording():
        duet.wait(SETTLES_S)
        duet.wait_until_in_step(limit_us, within_s)
    assert (duet.said("left"), duet.said("right")) == ([], [])


@OUTPUTS
def test_a_card_that_is_lost_is_said_once_and_in_step_when_it_returns(
    duet: Duet, output: str, limit_us: float, within_s: float
) -> None:
    duet.start(output, *OPTIONS)
    with duet.recording():
        duet.wait(2)
        duet.lose("left")
        lost_s = duet.now_s
        wait_until(lambda: duet.said("left") == [GONE], "the line about it")
        duet.wait(4)
        returns_s = duet.now_s
        duet.server.add_side("left")
        wait_until(lambda: duet.said("left") == [GONE, BACK], "the line about its return")
        print(f"back {duet.now_s - returns_s:.1f} s after its card")
        duet.wait(SETTLES_S)
        duet.wait_until_in_step(limit_us, within_s)
        ended_s = duet.now_s
    # What has been recorded may be a moment behind what sounds; nobody pauses for two seconds.
    assert duet.peak("left", lost_s + 2, returns_s) == 0.0
    assert sounds_throughout(duet, "right", lost_s, ended_s)
    assert duet.said("right") == []
    assert duet.said("left") == [GONE, BACK]


def test_a_stream_that_the_sound_server_moves_plays_on_in_step(duet: Duet) -> None:
    """To the card `both`, that is: the left one's sound is then on either side.

    Through ALSA a move that leaves a hole is an end: ALSA begins anew, on the card that is gone.
    """
    duet.start("pulse", *OPTIONS)
    with duet.recording():
        duet.wait(2)
        duet.server.ask("unload-module", duet.sides["left"])
        moved_s = duet.now_s
        duet.wait(1)
        # The right side is the sum of both: were they apart, it would sound as a comb does.
        duet.wait_until_in_step(LIMIT_US, 10)
        ended_s = duet.now_s
    assert sounds_throughout(duet, "left", moved_s + 1, ended_s)
    assert duet.said("left") == []
