"""The loudspeaker's composition root: sound flows through it from top to bottom."""

import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from endpoints.lateness import LatenessWatch
from endpoints.local import beeps, line_up_tone
from endpoints.outputs.base import Output
from endpoints.player import Player
from endpoints.station.session import ControlSession, Look
from endpoints.station.store import SpeakerStore
from endpoints.station.tls import TlsPeer
from endpoints.sync import TimeSync
from endpoints.way.media import Media
from endpoints.way.metering import Meter
from endpoints.way.repair import Repair
from transport.clock.asymmetry import AsymmetryJump
from transport.clock.estimator import ClockEstimate
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND
from transport.control.address import StationAddress
from transport.control.messages import (
    LONGEST,
    VERSION,
    Adjust,
    Command,
    Hello,
    Listen,
    Telemetry,
    Welcome,
    shown,
)
from transport.net.clocks import Clock, slept_ns
from transport.security.keys import VerifyKey

_ENOUGH_PACKETS = 10
# A station that hears its loudspeakers as often as this has few, and hears of every change at once.
_OFTEN_S = 2.0
_LOOK_PAUSE_S = 0.5
# How soon it is noticed that the machine has slept, and how much of that is worth beginning anew.
_WAKE_S, _NAP_NS = 0.25, 500 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class SpeakerSettings:
    """How one loudspeaker is set up; `server` is where its station is, if that was said.

    What would come in any second is kept to `max_kbps` by asking for less of what was lost.
    """

    multicast: bool
    delivery: str = "lan"
    interface: str | None = None
    servo: bool = True
    server: StationAddress | None = None
    max_kbps: int | None = None


class Loudspeaker:
    """Datagrams in, sound out."""

    def __init__(
        self,
        settings: SpeakerSettings,
        store: SpeakerStore,
        clock: Clock,
        output: Output,
        say: Callable[[str], None],
        *,
        fixed_estimate: ClockEstimate | None = None,
        look: Look | None = None,
        slept_ns: Callable[[], int] = slept_ns,
    ) -> None:
        """The state in `store` is that of a loudspeaker that is enrolled.

        `fixed_estimate` replaces what the time exchange finds, to show what that is for; `look`
        looks for the station where it has moved to; `slept_ns` says how long the machine has
        slept in all.
        """
        uniform = random.SystemRandom().random
        self._settings = settings
        self._clock = clock
        self._born_ns = clock.now_ns()
        self._local_address = "127.0.0.1"
        self._looked_at = (0, 0)
        self._warned = False
        self._warned_of = ""
        self._join_fault = self._way_fault = ""
        self._told: tuple[str, ...] = ()
        self._by_groups_alone = False
        self._adjust = Adjust(100, muted=False)
        self._fixed = fixed_estimate
        self._slept_ns = slept_ns
        self._session = ControlSession(
            store, self, uniform, secrets.token_bytes, say, server=settings.server, look=look
        )
        self._sync = TimeSync(clock, self._clock_changed, self._way_changed)
        self._lateness = LatenessWatch()
        self._player = Player(
            self._estimate, servo=settings.servo, uniform=uniform, arrived=self._arrived
        )
        self._meter = None if settings.max_kbps is None else Meter(settings.max_kbps)
        self._repair = Repair(self._player, clock, self._meter)
        self._media = Media(self._repair, clock, uniform, secrets.token_bytes, say)
        self._repair.send_through(self._media)
        self._sync.send_through(self._media)
        self._output = output
        self._say = say

    def _estimate(self) -> ClockEstimate | None:
        return self._fixed or self._sync.estimate

    def _clock_changed(self) -> None:
        self._say("the station's clock began anew: finding the place in it")
        self._find_place()

    def _find_place(self) -> None:
        self._player.clock_changed()
        self._lateness.forget()

    def _arrived(self, stream: int, media_ns: int, arrived_ns: int) -> None:
        self._sync.arrived(stream, media_ns, arrived_ns)
        estimate = self._estimate()
        if estimate is not None:
            self._lateness.add(stream, media_ns, estimate.theirs(arrived_ns) - media_ns)

    def _way_changed(self, jump: AsymmetryJump) -> None:
        """By ear alone can this be put right: said until the trim is another."""
        self._way_fault = (
            f"the way to the station is another in one direction: sound may be "
            f"{abs(jump.shift_ns) / NS_PER_MS:.1f} ms off; calibrate again"
        )
        self._say(self._way_fault)

    @property
    def joined(self) -> str:
        """Where the station is that has welcomed us; empty while none has."""
        return self._session.joined.text if self._session.joined else ""

    @property
    def story(self) -> str:
        """What came and what did not, in a line for people; empty if nothing has come yet."""
        counts = self._player.counts()
        if not counts["received"]:
            return ""
        withheld = 0 if self._meter is None else self._meter.withheld
        return (
            f"{counts['received']} packets received, {counts['lost']} lost; of the frames "
            f"{counts['recovered_copy']} came as a copy, {counts['recovered_erasure']} were "
            f"decoded, {counts['recovered_repair']} came when asked for again, and "
            f"{counts['concealed']} were concealed"
            + (f"; {withheld} times asking was left out for --max-kbps" if withheld else "")
        )

    async def run(self) -> None:
        """Play until cancelled; OutputError or RefusedForGood when that is impossible.

        RestartAsked when the station wants it to begin anew.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._media.run)
            nursery.start_soon(self._repair.run)
            nursery.start_soon(self._sync.run)
            nursery.start_soon(self._session.run)
            nursery.start_soon(self._output.run, self._player.pull)
            nursery.start_soon(self._notice_sleep)

    async def _notice_sleep(self) -> None:
        """Timers stand still while the machine sleeps, so none of them says that it has."""
        before_ns = self._slept_ns()
        while True:
            await trio.sleep(_WAKE_S)
            slept_ns = self._slept_ns()
            napped_ns, before_ns = slept_ns - before_ns, slept_ns
            if napped_ns > _NAP_NS:
                self._say(f"this machine has slept for {napped_ns / NS_PER_SECOND:.0f} s")
                self._sync.woken()
                self._find_place()
                self._session.woken()

    # ------------------------------------------------------------- what the session asks
    def hello(self, name: str, key: bytes, nonce: bytes) -> Hello:
        """Who we are."""
        mine = self._settings
        return Hello(VERSION, name, mine.multicast, key, nonce, mine.delivery)

    def trust(self, station: VerifyKey, generation: int) -> None:
        """Only this station's streams are played."""
        self._player.trust(station, generation)

    def welcomed(self, address: str, local_address: str, welcome: Welcome, tls: TlsPeer) -> None:
        """The station is at `address`."""
        self._local_address = local_address
        self._sync.ask(address, welcome.time_port, welcome.session, welcome.key, welcome.time_s)
        self._repair.begin(address, welcome.session, welcome.key)
        self._lateness.begin(welcome.telemetry_s)
        self._media.welcomed(address, local_address, welcome, tls)

    async def reachable(self) -> None:
        """Until unicast would arrive; two seconds at most."""
        await self._media.reachable()

    def declared(self, listen: Listen) -> None:
        """The station says what to play."""
        self._player.declare(listen)
        groups = [spec.group for spec in listen.streams]
        self._by_groups_alone = bool(groups) and None not in groups
        interface = self._settings.interface or self._local_address
        try:
            self._media.join(listen, interface)
            self._join_fault = ""
        except OSError as error:
            why = error.strerror or error
            self._join_fault = f"cannot join a multicast group on {interface}: {why}"
            self._say(self._join_fault)

    def adjusted(self, adjust: Adjust) -> None:
        """The station says how loud to be, and how much later than others."""
        if adjust.trim_us != self._adjust.trim_us:
            self._way_fault = ""
        self._adjust = adjust
        self._player.adjust(adjust.volume, muted=adjust.muted, trim_us=adjust.trim_us)

    def commanded(self, command: Command) -> str:
        """Sound a tone or say where we are, unless somebody is speaking."""
        if command.action == "restart":
            self._say("beginning anew, for the station asks for it")
        elif self._player.hearing:
            return f"{self._player.hearing} is being heard"
        elif command.action == "tone":
            self._player.sound(line_up_tone(command.seconds))
        else:
            self._say("here I am: the station asks")
            self._player.sound(beeps())
        return ""

    @property
    def _fault(self) -> str:
        return self._output.fault or self._join_fault or self._way_fault

    def _worth_telling(self) -> tuple[str, ...]:
        return self._fault, self._player.state, self._player.hearing

    async def news(self, every_s: float) -> None:
        """Until something is wrong that was not, or no more; of few, also what is heard.

        At the beginning of an announcement the state of all changes, of thousands at once.
        """
        count = 3 if every_s <= _OFTEN_S else 1
        while True:
            await trio.sleep(_LOOK_PAUSE_S)
            if self._worth_telling()[:count] != self._told[:count]:
                return

    def _warn_of_lateness(self, received: int, late: int) -> None:
        """Say it once, when a tenth of what came since the last look was too late to sound."""
        came, missed = received - self._looked_at[0], late - self._looked_at[1]
        self._looked_at = (received, late)
        if came >= _ENOUGH_PACKETS and 10 * missed > came and not self._warned:
            self._warned = True
            self._say(
                f"{missed} of {came} packets came too late to be heard: "
                "use a shorter --buffer-ms here, or a longer playout delay"
            )

    def _warn_of_clear_sound(self) -> None:
        """Say it once a programme: nobody can tell who is speaking."""
        heard = "" if self._player.authenticated else self._player.hearing
        if heard and heard != self._warned_of:
            self._say(f"{heard} is heard in clear, unauthenticated: anybody here may be speaking")
        self._warned_of = heard

    def telemetry(self) -> Telemetry:
        """How we are."""
        self._warn_of_clear_sound()
        now_ns = self._clock.now_ns()
        counts, losses = self._player.counts(), self._player.losses(now_ns)
        self._warn_of_lateness(counts["received"], counts["dropped_late"])
        self._told = self._worth_telling()
        estimate = self._estimate()
        uncertainty_us = estimate.uncertainty_ns / 1e3 if estimate else 0.0
        dropped = sum(n for key, n in counts.items() if key.startswith("dropped_"))
        dropped += self._media.dropped.total()
        return Telemetry(
            state=self._player.state,
            level_dbfs=round(self._player.level_dbfs, 1),
            sync_error_us=round(min(self._player.sync_error_us, LONGEST), 1),
            clock_uncertainty_us=round(min(uncertainty_us, LONGEST), 1),
            packets_received=counts["received"],
            packets_lost=counts["lost"],
            packets_late=counts["dropped_late"],
            packets_missed=max(counts["lost"] - _recovered(counts), 0),
            packets_dropped=dropped,
            underruns=self._output.underruns,
            hearing=shown(self._player.hearing),
            volume=self._adjust.volume,
            muted=self._adjust.muted,
            fault=shown(self._fault),
            way="multicast" if self._by_groups_alone else self._media.way,
            authenticated=self._player.authenticated,
            uptime_s=round((now_ns - self._born_ns) / 1e9, 1),
            loss=round(losses.loss, 4),
            longest_burst_ms=round(min(losses.longest_burst_ms, LONGEST), 1),
            jitter_ms=round(min(losses.jitter_ms, LONGEST), 1),
            margin_ms=_told_ms(losses.margin_ms),
            lateness=self._lateness.told(estimate.theirs(now_ns)) if estimate else None,
        )


def _told_ms(margin_ms: float | None) -> float | None:
    """As telemetry can say it: who has no time at all has less than none."""
    return None if margin_ms is None else round(min(max(margin_ms, 0.0), LONGEST), 1)


def _recovered(counts: Mapping[str, int]) -> int:
    """How many frames came in time, but otherwise than by their own packets."""
    return sum(count for what, count in counts.items() if what.startswith("recovered_"))
