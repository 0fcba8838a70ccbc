"""What the output pulls: the voice that is heard now, at the place where the media clock is."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from codec.dsp.meter import Meter
from codec.format import SAMPLE_RATE, Samples
from endpoints.local import LocalSound, Tone
from endpoints.voice import Voice
from transport.clock.estimator import ClockEstimate
from transport.clock.timeline import NS_PER_SECOND, ns_of_samples, samples_of_ns
from transport.control.messages import Listen, StreamSpec
from transport.control.priority import heard
from transport.errors import MalformedPacket
from transport.jitter.playout import DriftServo, Playhead
from transport.recovery.bundle import BUNDLE, unbundle
from transport.recovery.report import LossSummary
from transport.recovery.request import Wanted
from transport.security.keys import VerifyKey
from transport.security.sealing import StreamOpener
from transport.session.receiver import ClearOpener, Opener

_BUNDLE = bytes((BUNDLE,))
_SSRC_AT = {False: 8, True: 4}
_SILENT = 1e-4
# A trim that changes while something sounds: below what the servo can follow, and no ear hears it.
_TRIM_RATE = 200e-6


class Player:
    """Holds the voices; sans-I/O: datagrams, pulls and times come in as arguments."""

    def __init__(
        self,
        estimate: Callable[[], ClockEstimate | None],
        *,
        servo: bool = True,
        uniform: Callable[[], float] | None = None,
        arrived: Callable[[int, int, int], None] = lambda *_: None,
    ) -> None:
        """`estimate` gives the newest knowledge of the media clock.

        `uniform` draws from [0, 1): of thousands in a group each asks at a time of its own for what
        it misses. Without it, at once. `arrived` is told of packets from a group that nobody else
        can have made, of the stream that is heard: its SSRC, the media time, and when it came.
        """
        self._estimate = estimate
        self._uniform = uniform
        self._arrived = arrived
        self._playhead = Playhead(DriftServo() if servo else None)
        self._station: tuple[VerifyKey, int] | None = None
        # By what a stream is known by, and by what its packets bear.
        self._voices: dict[int, Voice] = {}
        self._by_wire: dict[int, Voice] = {}
        self._leaving: list[Voice] = []
        self._heard: Voice | None = None
        self._local = LocalSound()
        self._gain = self._wanted_gain = 1.0
        self._trim_ns = self._wanted_trim_ns = 0
        self._past: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
        self._meter = Meter()
        self._sync_error_samples = 0.0
        self._quiet = True

    # ------------------------------------------------------------- streams
    def trust(self, station: VerifyKey, generation: int) -> None:
        """Whose certificates hold from now on; say it before the first `declare` of a session."""
        self._station = (station, generation)

    def declare(self, listen: Listen) -> None:
        """Listen to exactly these streams from now on; what plays on, plays on untouched.

        A sealed stream whose certificate does not hold is not played, and counted.
        """
        wanted = {spec.ssrc: spec for spec in listen.streams}
        for ssrc, voice in list(self._voices.items()):
            spec = wanted.get(ssrc)
            if spec is None or not self._goes_on(voice, spec):
                del self._voices[ssrc]
                self._past += _counts(voice)
                if voice is self._heard:
                    self._leaving.append(voice)
        for ssrc, spec in wanted.items():
            try:
                if ssrc not in self._voices:
                    self._voices[ssrc] = Voice(spec, self._opener(spec), self._uniform)
            except MalformedPacket as error:
                self._strangers[error.reason] += 1
        self._by_wire = {s: voice for voice in self._voices.values() for s in voice.spec.ssrcs}

    def _goes_on(self, voice: Voice, spec: StreamSpec) -> bool:
        """Whether it is the same stream, but for its epochs; the voice knows them then."""
        if replace(spec, seal=None) != replace(voice.spec, seal=None):
            return False
        opener = voice.receiver.opener
        if spec.seal is None or self._station is None or not isinstance(opener, StreamOpener):
            return spec == voice.spec
        try:
            opener.declare(spec, *self._station)
        except MalformedPacket:
            return False
        voice.declare(spec)
        return True

    def _opener(self, spec: StreamSpec) -> Opener:
        if spec.seal is None:
            return ClearOpener(spec)
        if self._station is None:
            raise MalformedPacket("certificate")
        return StreamOpener(spec, *self._station)

    def adjust(self, volume: int, *, muted: bool, trim_us: int = 0) -> None:
        """Be as loud as this from the next block on (0 to 100), and so much later (or earlier).

        While something sounds a new trim is approached by 200 us a second, which nobody hears.
        """
        self._wanted_gain = 0.0 if muted else gain_of_volume(volume)
        self._wanted_trim_ns = trim_us * 1_000

    def sound(self, tone: Tone) -> None:
        """Play a sound of this loudspeaker's own, wherever no programme is heard."""
        self._local.play(tone)

    def clock_changed(self) -> None:
        """The station's clock is another one: find the place anew."""
        self._playhead.forget()

    def receive(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:
        """A datagram from a media port, at `now_ns` of this machine's clock.

        `came_ns` is when the kernel had it, if it came to a group and that is known.
        """
        if data[:1] != _BUNDLE:
            self._take(data, now_ns, came_ns)
            return
        try:
            packets = unbundle(data)
        except MalformedPacket as error:
            self._strangers[error.reason] += 1
            return
        for packet in packets:
            self._take(packet, now_ns)

    def _take(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:
        estimate = self._estimate()
        ssrc = _ssrc_of(data)
        voice = None if ssrc is None else self._by_wire.get(ssrc)
        if estimate is None or voice is None:
            self._strangers["no_clock" if estimate is None else "ssrc"] += 1
            return
        begins = voice.receive(data, samples_of_ns(estimate.theirs(now_ns)))
        is_common = voice is self._heard and voice.authenticated and voice.spec.group is not None
        if came_ns is not None and begins is not None and is_common:
            self._arrived(voice.spec.ssrc, ns_of_samples(begins), came_ns)

    # ------------------------------------------------------------- what is missing
    def requests(self, now_ns: int) -> list[Wanted]:
        """What to ask the station for now, of the voice that is heard first.

        It counts as asked for.
        """
        estimate = self._estimate()
        if estimate is None:
            return []
        now_sample = samples_of_ns(estimate.theirs(now_ns))
        by_use = sorted(self._voices.values(), key=lambda voice: voice is not self._heard)
        return [wanted for voice in by_use for wanted in voice.wanted(now_sample)]

    def next_request_ns(self) -> int | None:
        """When `requests` may have something to say, by this machine's clock; None if never."""
        estimate = self._estimate()
        due = [at for v in self._voices.values() if (at := v.next_wanted) is not None]
        # Rounded up, so that it is due by then.
        return estimate.ours(ns_of_samples(min(due) + 1)) if due and estimate is not None else None

    def packets_a_second(self, now_ns: int) -> float:
        """How many of sound would come if none were lost."""
        estimate = self._estimate()
        if estimate is None:
            return 0.0
        now_sample = samples_of_ns(estimate.theirs(now_ns))
        sounding = [v for v in self._voices.values() if v.is_sent(now_sample)]
        return sum(1000 / voice.spec.frame_ms for voice in sounding)

    @property
    def round_trip_ns(self) -> int:
        """From a request to its answer, by the slowest of the streams."""
        trips = (voice.receiver.schedule.rtt_samples for voice in self._voices.values())
        return ns_of_samples(max(trips, default=0))

    def losses(self, now_ns: int) -> LossSummary:
        """How the way was of late, by the worst of the streams in each respect."""
        estimate = self._estimate()
        if estimate is None or not self._voices:
            return LossSummary()
        now_sample = samples_of_ns(estimate.theirs(now_ns))
        each = [voice.receiver.report.summary(now_sample) for voice in self._voices.values()]
        return LossSummary(
            max(one.loss for one in each),
            max(one.longest_burst_ms for one in each),
            max(one.jitter_ms for one in each),
            min((one.margin_ms for one in each if one.margin_ms is not None), default=None),
        )

    # ------------------------------------------------------------- sound
    def pull(self, samples: int, sounds_at_ns: int) -> Samples:
        """`samples` of sound, the first of which will sound at `sounds_at_ns`."""
        block = self._local.read(samples, alone=self._heard is None)
        estimate = self._estimate()
        if estimate is not None:
            trim_ns = self._move_trim(samples)
            block += self._render(samples, estimate.theirs(sounds_at_ns) - trim_ns)
        # Along the block, for a step of the gain would click.
        block *= np.linspace(self._gain, self._wanted_gain, samples, dtype=np.float32)
        self._gain = self._wanted_gain
        self._meter.feed(block)
        self._quiet = float(np.max(np.abs(block), initial=0.0)) < _SILENT
        return block

    def _move_trim(self, samples: int) -> int:
        """The trim of this block, in ns."""
        away_ns = self._wanted_trim_ns - self._trim_ns
        if away_ns and self._quiet:
            self._trim_ns = self._wanted_trim_ns
            self._playhead.forget()
        elif away_ns:
            most_ns = max(round(samples * NS_PER_SECOND / SAMPLE_RATE * _TRIM_RATE), 1)
            self._trim_ns += min(max(away_ns, -most_ns), most_ns)
        return self._trim_ns

    def _render(self, samples: int, media_ns: int) -> Samples:
        segment = self._playhead.advance(samples, media_ns, pause=self._quiet)
        if segment.reanchored:
            self._find_place()
        else:
            # Smoothed over a second: one reading of a sound card's clock is noisy.
            weight = samples / SAMPLE_RATE
            self._sync_error_samples += weight * (segment.error_samples - self._sync_error_samples)
        begin, end = segment.start, segment.end
        for at, voice in self._changes(begin, end):
            self._change_over(voice, at)
        block = np.zeros(samples, np.float32)
        offsets = segment.positions(begin)
        for voice in (*self._voices.values(), *self._leaving):
            if voice.fader.is_silent(begin, end):
                voice.skip(segment)
            else:
                block += voice.read(segment) * voice.fader.gains(begin, offsets)
        self._leaving = [v for v in self._leaving if not v.fader.is_silent(begin, end)]
        return block

    def _changes(self, begin: int, end: int) -> Iterator[tuple[int, Voice | None]]:
        """Who is heard from which playhead sample of the block on."""
        due = [(v, span) for v in self._voices.values() if (span := v.due(begin, end)) is not None]
        for at in sorted({begin, *(edge for _, span in due for edge in span if edge < end)}):
            yield at, heard(voice for voice, (since, until) in due if since <= at < until)

    def _change_over(self, voice: Voice | None, at: int) -> None:
        if voice is self._heard:
            return
        if self._heard is not None:
            self._heard.fader.turn(0.0, at)
        if voice is not None:
            voice.fader.turn(1.0, at)
        self._heard = voice

    def _find_place(self) -> None:
        """The playhead has jumped: everything fades in anew, there."""
        self._sync_error_samples = 0.0
        self._heard = None
        self._leaving.clear()
        for voice in self._voices.values():
            voice.rewind()

    # ------------------------------------------------------------- figures
    @property
    def state(self) -> str:
        """As telemetry says it."""
        if self._estimate() is None:
            return "syncing"
        return "idle" if self._quiet and self._heard is None else "playing"

    @property
    def hearing(self) -> str:
        """The programme that is heard now, or nothing."""
        return "" if self._heard is None else self._heard.spec.programme

    @property
    def authenticated(self) -> bool:
        """False while a stream in clear is heard, which anybody may have made."""
        return self._heard is None or self._heard.authenticated

    @property
    def level_dbfs(self) -> float:
        """What is heard now."""
        return self._meter.rms_dbfs

    @property
    def sync_error_us(self) -> float:
        """Distance from where the media clock says this loudspeaker should be."""
        return abs(self._sync_error_samples) / SAMPLE_RATE * 1e6

    def counts(self) -> Counter[str]:
        """received, lost, recovered_copy, _repair, _erasure, concealed, dropped; since the start.

        Packets came themselves (received) or did not (lost); frames came otherwise (recovered) or
        had to be invented (concealed); what was dropped is by its reason.
        """
        total = Counter(self._past)
        for voice in self._voices.values():
            total += _counts(voice)
        for reason, count in self._strangers.items():
            total[f"dropped_{reason}"] += count
        return total


def gain_of_volume(volume: int) -> float:
    """A knob that turns evenly to the ear, as in PulseAudio: cubic, 50 is 18 dB below 100."""
    return (volume / 100) ** 3


def _ssrc_of(data: bytes) -> int | None:
    if len(data) < 12:
        # The shortest RTP header is 12 bytes; a shorter RTCP packet says nothing of a stream.
        return None
    at = _SSRC_AT[192 <= data[1] <= 223]  # RTCP's packet types (RFC 5761 section 4)
    return int.from_bytes(data[at : at + 4], "big")


def _counts(voice: Voice) -> Counter[str]:
    receiver = voice.receiver
    counts = Counter(
        received=receiver.received, lost=receiver.lost, concealed=voice.concealed_frames
    )
    counts.update({f"recovered_{how}": n for how, n in receiver.recovered.items()})
    counts.update({f"dropped_{reason}": n for reason, n in receiver.dropped.items()})
    return counts
