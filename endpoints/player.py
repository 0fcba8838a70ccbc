"""What the output pulls: the voice that is heard now, at the place where the media clock is."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from codec.dsp.meter import Meter
from codec.format import SAMPLE_RATE, Samples
from endpoints.local import LocalSound, Tone
from endpoints.voice import Voice
from transport.clock.estimator import ClockEstimate
from transport.clock.timeline import samples_of_ns
from transport.control.messages import Listen
from transport.control.priority import heard
from transport.jitter.playout import DriftServo, Playhead

_SSRC_AT = {False: 8, True: 4}
_SILENT = 1e-4


class Player:
    """Holds the voices; sans-I/O: datagrams, pulls and times come in as arguments."""

    def __init__(
        self, estimate: Callable[[], ClockEstimate | None], cname: str, *, servo: bool = True
    ) -> None:
        """`estimate` gives the newest knowledge of the media clock."""
        self._estimate = estimate
        self._cname = cname
        self._own_ssrc = secrets.randbits(32)
        self._playhead = Playhead(DriftServo() if servo else None)
        self._voices: dict[int, Voice] = {}
        self._leaving: list[Voice] = []
        self._heard: Voice | None = None
        self._local = LocalSound()
        self._gain = self._wanted_gain = 1.0
        self._past: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
        self._meter = Meter()
        self._sync_error_samples = 0.0
        self._quiet = True

    # ------------------------------------------------------------- streams
    def declare(self, listen: Listen) -> None:
        """Listen to exactly these streams from now on; what plays on, plays on untouched."""
        wanted = {spec.ssrc: spec for spec in listen.streams}
        for ssrc in list(self._voices):
            if wanted.get(ssrc) != self._voices[ssrc].spec:
                voice = self._voices.pop(ssrc)
                self._past += _counts(voice)
                if voice is self._heard:
                    self._leaving.append(voice)
        for ssrc, spec in wanted.items():
            if ssrc not in self._voices:
                self._voices[ssrc] = Voice(spec, self._own_ssrc, self._cname)

    def adjust(self, volume: int, *, muted: bool) -> None:
        """Be as loud as this from the next block on; 0 to 100."""
        self._wanted_gain = 0.0 if muted else gain_of_volume(volume)

    def sound(self, tone: Tone) -> None:
        """Play a sound of this loudspeaker's own, wherever no programme is heard."""
        self._local.play(tone)

    def clock_changed(self) -> None:
        """The station's clock is another one: find the place anew."""
        self._playhead.forget()

    def receive(self, data: bytes, now_ns: int) -> None:
        """A datagram from a media port, at `now_ns` of this machine's clock."""
        estimate = self._estimate()
        ssrc = _ssrc_of(data)
        voice = None if ssrc is None else self._voices.get(ssrc)
        if estimate is None or voice is None:
            self._strangers["no_clock" if estimate is None else "ssrc"] += 1
            return
        voice.receiver.receive(data, samples_of_ns(estimate.theirs(now_ns)), now_ns)

    def reports(self, now_ns: int) -> list[bytes]:
        """A receiver report for each voice that has been heard."""
        return [
            v.receiver.report(now_ns) for v in self._voices.values() if v.receiver.stats.received
        ]

    # ------------------------------------------------------------- sound
    def pull(self, samples: int, sounds_at_ns: int) -> Samples:
        """`samples` of sound, the first of which will sound at `sounds_at_ns`."""
        block = self._local.read(samples, alone=self._heard is None)
        estimate = self._estimate()
        if estimate is not None:
            block += self._render(samples, estimate.theirs(sounds_at_ns))
        # Along the block, for a step of the gain would click.
        block *= np.linspace(self._gain, self._wanted_gain, samples, dtype=np.float32)
        self._gain = self._wanted_gain
        self._meter.feed(block)
        self._quiet = float(np.max(np.abs(block), initial=0.0)) < _SILENT
        return block

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
            here = {v.spec: v for v, (since, until) in due if since <= at < until}
            chosen = heard(here)
            yield at, None if chosen is None else here[chosen]

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
    def level_dbfs(self) -> float:
        """What is heard now."""
        return self._meter.rms_dbfs

    @property
    def sync_error_us(self) -> float:
        """Distance from where the media clock says this loudspeaker should be."""
        return abs(self._sync_error_samples) / SAMPLE_RATE * 1e6

    def counts(self) -> Counter[str]:
        """received, lost, concealed, and dropped datagrams by reason, since the start."""
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
        received=receiver.stats.received, lost=receiver.stats.lost, concealed=voice.concealed_frames
    )
    counts.update({f"dropped_{reason}": n for reason, n in receiver.dropped.items()})
    return counts
