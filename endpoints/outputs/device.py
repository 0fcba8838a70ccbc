"""A real sound card: the player is asked for what sounds when the card says that it will.

The card's callback takes samples from a queue; this side keeps the queue filled, and asks for
each block with the time at which the card will play it. A card that vanishes leaves a silent
loudspeaker that goes on in every other way and takes the card back when it returns.
"""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import trio

from codec import soundcard
from codec.soundcard import PLAYING, SoundCardError
from endpoints.outputs.base import OutputError, Pull
from endpoints.outputs.card import Card, OpenCard, PortAudioCard
from endpoints.outputs.feed import CAPACITY
from endpoints.outputs.pulse import PulseCard
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND, ns_of_samples
from transport.net.clocks import Clock

# A card that plays asks for more every few milliseconds; but after a hole a sound server may first
# play out the silence that it has ready: PulseAudio up to two seconds.
_WATCHDOG_S = 3.0
# One that has just been opened does that, and may take its time to open.
_SETTLE_S = 5.0
_RETRY_S = 1.0
_CLOSE_S = 1.0
_STAND_IN_SAMPLES = 480
# A sample that waits to be played cannot have sounded so long ago: the machine, or this process,
# has slept, and the card has not said yet where it is.
_SLEPT_NS = 50 * NS_PER_MS


class DeviceOutput:
    """Pulls by a sound card's own output time."""

    def __init__(
        self,
        card: Card,
        clock: Clock,
        say: Callable[[str], None],
        *,
        period_samples: int = 240,
        buffer_samples: int = 480,
    ) -> None:
        """`buffer_samples` are kept ready for the card, beyond what it buffers itself.

        If it wants more at once, twice as many as it wants. `say` is given one line for a person
        when the card vanishes and one when it plays again.
        """
        self._card = card
        self._clock = clock
        self._say = say
        self._period = period_samples
        self._buffer = buffer_samples
        self._woken = trio.Event()
        self._open: OpenCard | None = None
        self._past_underruns = 0
        self.underruns = 0
        self.fault = ""
        self._told_timeless = False

    async def run(self, pull: Pull) -> None:
        """Pull for ever; OutputError if the card cannot be used at the start."""
        try:
            await self._begin(again=False)
            while True:
                why = await self._play(pull)
                self.fault = f"the sound card is gone: {why}"
                self._say(f"{self.fault}; silence until it returns")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._stand_in, pull)
                    await self._return()
                    nursery.cancel_scope.cancel()
                self.fault = ""
                self._say("the sound card is back and plays")
        except SoundCardError as error:
            raise OutputError(str(error)) from None
        finally:
            with trio.move_on_after(_CLOSE_S, shield=True):
                await self._card.close()

    # ------------------------------------------------------------- opening
    async def _begin(self, *, again: bool) -> None:
        """Open the card and learn when its samples sound; SoundCardError if that fails."""
        token = trio.lowlevel.current_trio_token()

        def wake() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._wake, idempotent=True)

        self._past_underruns = self.underruns
        card = self._open = OpenCard(self._clock, wake)
        with trio.move_on_after(_SETTLE_S):
            await self._card.open(card, again=again)
            while not card.dac.known:
                await self._called()
                if card.ended:
                    break
                card.look()
        if not card.dac.known or card.ended:
            raise SoundCardError("the sound card takes no sound; choose another")

    async def _return(self) -> None:
        """Back when the card plays again."""
        await self._card.close()
        while True:
            await trio.sleep(_RETRY_S)
            try:
                return await self._begin(again=True)
            except SoundCardError:
                await self._card.close()

    async def _stand_in(self, pull: Pull) -> None:
        """Let the player go on by the machine's clock, so that all it knows stays true."""
        start_ns, played = self._clock.now_ns(), 0
        while True:
            behind_ns = self._clock.now_ns() - start_ns - ns_of_samples(played)
            if behind_ns > NS_PER_SECOND:  # the machine has slept
                start_ns, played = self._clock.now_ns(), 0
            elif behind_ns >= 0:
                pull(_STAND_IN_SAMPLES, start_ns + ns_of_samples(played))
                played += _STAND_IN_SAMPLES
            else:
                await trio.sleep(-behind_ns / NS_PER_SECOND)

    # ------------------------------------------------------------- playing
    async def _play(self, pull: Pull) -> str:
        """Play until the card vanishes; in what way it has."""
        card = self._open
        if card is None:
            raise ValueError("no card has been opened")
        while True:
            if card.timeless and not self._told_timeless:
                self._told_timeless = True
                self._say(
                    "the sound card does not tell when its samples sound: "
                    "it may be out of step by what its stated latency is wrong"
                )
            self._fill(card, pull)
            with trio.move_on_after(_WATCHDOG_S) as patience:
                await self._called()
            if card.ended:
                return "its stream was ended"
            if patience.cancelled_caught:
                return f"it took no samples for {_WATCHDOG_S:g} s"
            card.look()
            self.underruns = self._past_underruns + card.underruns

    def _fill(self, card: OpenCard, pull: Pull) -> None:
        wanted = max(self._buffer, 2 * card.feed.largest_take)
        wanted = min(wanted, CAPACITY - self._period)
        # A machine too slow for its player must still come to its other work.
        for _ in range(wanted // self._period + 1):
            if card.feed.ready >= wanted:
                return
            index = card.feed.end
            sounds_ns = card.dac.sounds_at_ns(index)
            if self._clock.now_ns() - sounds_ns > _SLEPT_NS:
                # What the player has for that time would be heard now, and be stale.
                card.feed.bring(index, np.zeros(self._period, np.float32))
            else:
                card.feed.bring(index, pull(self._period, sounds_ns))

    async def _called(self) -> None:
        """Wait until the card's thread has been here."""
        await self._woken.wait()
        self._woken = trio.Event()

    def _wake(self) -> None:
        self._woken.set()


def list_devices() -> list[str]:
    """The cards that can play, a line each; OutputError where there is no PortAudio."""
    try:
        return soundcard.listing(PLAYING)
    except SoundCardError as error:
        raise OutputError(str(error)) from None


def open_device(
    name: str, clock: Clock, say: Callable[[str], None], *, period_samples: int, buffer_samples: int
) -> DeviceOutput:
    """The card called `name` (as `codec.soundcard.find` takes it), which buffers as much again."""
    card = PortAudioCard(name, ns_of_samples(buffer_samples) / NS_PER_SECOND)
    return DeviceOutput(
        card, clock, say, period_samples=period_samples, buffer_samples=buffer_samples
    )


def open_pulse(
    name: str, clock: Clock, say: Callable[[str], None], *, period_samples: int, buffer_samples: int
) -> DeviceOutput:
    """The sound server's sink called `name`, empty for its default, which buffers as much again."""
    card = PulseCard(name, ns_of_samples(buffer_samples) / NS_PER_SECOND, clock)
    return DeviceOutput(
        card, clock, say, period_samples=period_samples, buffer_samples=buffer_samples
    )
