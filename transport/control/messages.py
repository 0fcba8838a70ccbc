"""What station and loudspeaker say to each other, over a WebSocket.

The station shows itself first (`Identity`); the loudspeaker says `Hello`, or `Enrol` where it has
never been. Both prove that they hold their keys, and everything the station says from then on is
signed, numbered and bound to that loudspeaker and that session (`transport.security.handshake`).
The station declares the whole desired state each time (`Listen`), so a message that was lost with
its connection needs no replay. PROTOCOL: one message a WebSocket frame, encoded by `wire`.
"""

import ipaddress
import math
import re
import unicodedata
from dataclasses import dataclass, field

from codec.format import FRAME_MS
from transport.control.delivery import check_delivery
from transport.control.lateness import Lateness
from transport.control.priority import Priority
from transport.control.wire import vocabulary
from transport.rtp.packet import repair_ssrc

VERSION = 3
SUBPROTOCOL = "loa.control.v3"
_NAME = re.compile(r"[\w][\w .:-]{0,63}")
MAX_PLAYOUT_DELAY_MS = 10_000
MAX_TONE_S = 60.0
MAX_TRIM_US = 50_000
MAX_TEXT = 200
# Thirty years in seconds, half an hour in microseconds; and no level has four digits.
LONGEST = 1e9
_LOUDEST_DB = 200.0
PUBLIC_KEY_BYTES = 32
NONCE_BYTES = 32
_LEAST_PACE_S, _MOST_PACE_S = 0.1, 120.0
# AEAD_AES_128_GCM: the master key and its salt (RFC 7714 section 12).
SEAL_KEY_BYTES = 28
# The epoch that sounds, the next, and one that is just over.
MAX_EPOCHS = 4


def spelt_alike(name: str) -> str:
    """The one spelling (Unicode NFC) of a name as a person typed it.

    Vietnamese letters can be typed as one character or as a letter and its accents; names are
    compared character by character.
    """
    return unicodedata.normalize("NFC", name)


def check_name(name: str) -> str:
    """A loudspeaker's name: 1 to 64 letters, digits, spaces and . : - _, or ValueError.

    In the one spelling, and without a space at its end: what looks alike is one name.
    """
    if not _NAME.fullmatch(name) or name == "all" or name != spelt_alike(name).strip():
        raise ValueError(
            f"{name!r} is no loudspeaker's name: use 1 to 64 letters, digits, spaces or . : - _"
        )
    return name


def _check_port(port: int) -> None:
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no UDP port")


def _check_bytes(value: bytes, count: int, what: str) -> None:
    if len(value) != count:
        raise ValueError(f"{what} has {count} bytes, not {len(value)}")


@dataclass(frozen=True, slots=True)
class Identity:
    """The station's first word, before it knows who has come.

    `certificate` is a `StationCertificate`; `binding` its key's signature of the certificate that
    this TLS session shows; `nonce` is drawn for this session.
    """

    version: int
    certificate: bytes
    binding: bytes
    nonce: bytes

    def __post_init__(self) -> None:
        _check_bytes(self.nonce, NONCE_BYTES, "a nonce")


@dataclass(frozen=True, slots=True)
class Hello:
    """The first word of a loudspeaker that is enrolled: `key` is its public key."""

    version: int
    name: str
    multicast: bool
    key: bytes
    nonce: bytes
    delivery: str = "lan"

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_bytes(self.key, PUBLIC_KEY_BYTES, "a public key")
        _check_bytes(self.nonce, NONCE_BYTES, "a nonce")
        check_delivery(self.delivery, multicast=self.multicast)


@dataclass(frozen=True, slots=True)
class Enrol:
    """The first word of a loudspeaker that has a code.

    `code` tells which code, `mac` shows that its secret is known; `name` is what the loudspeaker
    would like to be called where the code says no name.
    """

    version: int
    name: str
    key: bytes
    nonce: bytes
    code: bytes
    mac: bytes
    multicast: bool = False
    delivery: str = "lan"

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_bytes(self.key, PUBLIC_KEY_BYTES, "a public key")
        _check_bytes(self.nonce, NONCE_BYTES, "a nonce")
        _check_bytes(self.code, 4, "a code's number")
        _check_bytes(self.mac, 32, "a code's proof")
        check_delivery(self.delivery, multicast=self.multicast)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """How a loudspeaker is, as often as `Welcome` says.

    `state` is one of "syncing", "idle", "playing"; level in dBFS; `sync_error_us` the distance
    between where it is and where the media clock says it should be; counts since it started;
    `underruns` are holes that the output made because this machine was too busy to fill it in
    time; `packets_missed` are those of the lost that were not made good. `hearing` names the
    programme that is heard, `fault` what is wrong in one line; either may be empty. `way` is how
    sound comes: "udp", "gateway", "multicast", or "none" that is known of; `authenticated` is false
    while a stream in clear is heard. `loss` (0 to 1), `longest_burst_ms`, `jitter_ms` and
    `margin_ms` (None: unknown) are a `LossSummary` of what is heard, before anything is mended.
    `lateness` is of the newest window that is over, of a sealed stream that is heard by multicast;
    None where there is none.
    """

    state: str
    level_dbfs: float
    sync_error_us: float
    clock_uncertainty_us: float
    packets_received: int
    packets_lost: int
    packets_late: int
    packets_dropped: int
    uptime_s: float
    underruns: int = 0
    packets_missed: int = 0
    hearing: str = ""
    volume: int = 100
    muted: bool = False
    fault: str = ""
    way: str = "none"
    authenticated: bool = True
    loss: float = 0.0
    longest_burst_ms: float = 0.0
    jitter_ms: float = 0.0
    lateness: Lateness | None = None
    margin_ms: float | None = None

    def __post_init__(self) -> None:
        _check_volume(self.volume)
        _check_text(self.hearing)
        _check_text(self.fault)
        if self.way not in {"none", "udp", "gateway", "multicast"}:
            raise ValueError(f"unknown way {self.way!r}")
        if self.state not in {"syncing", "idle", "playing"}:
            raise ValueError(f"unknown state {self.state!r}")
        way = (self.loss, self.longest_burst_ms, self.jitter_ms, self.margin_ms or 0.0)
        distances = (self.sync_error_us, self.clock_uncertainty_us, self.uptime_s, *way)
        if not all(map(math.isfinite, (self.level_dbfs, *distances))):
            raise ValueError("telemetry must be finite")  # JSON knows no other
        if min(distances) < 0 or max(distances) > LONGEST or abs(self.level_dbfs) > _LOUDEST_DB:
            raise ValueError("a distance or a time is not negative, and no figure is absurd")
        if self.loss > 1:
            raise ValueError("no more is lost than was sent")
        counts = (self.packets_received, self.packets_lost, self.packets_late, self.packets_dropped)
        if min(*counts, self.packets_missed, self.underruns) < 0:
            raise ValueError("a count is not negative")


@dataclass(frozen=True, slots=True)
class Ready:
    """The loudspeaker now listens as `Listen` number `revision` said."""

    revision: int


@dataclass(frozen=True, slots=True)
class Done:
    """What became of `Command` number `id`: `error` is empty, or one line that says why not."""

    id: int
    error: str = ""

    def __post_init__(self) -> None:
        _check_text(self.error)


@dataclass(frozen=True, slots=True)
class Pending:
    """The code was right; a person has yet to approve this loudspeaker. Wait."""

    reason: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """This loudspeaker is known as `name` from now on: keep that, and say `Hello`."""

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class Welcome:
    """The station's answer: where its other ports are, on the address called.

    `number` rises with every session that the station has ever had: a loudspeaker keeps the
    highest and refuses any that is not above it. `session` and `key` are for what goes by UDP and
    through the gateway (`transport.security.session_keys`). `telemetry_s` is how often the
    loudspeaker tells how it is, `time_s` how often it asks for the time once it knows it: the more
    loudspeakers a station has, the less often each.
    """

    version: int
    number: int
    session: int
    key: bytes = field(repr=False)
    time_port: int
    media_port: int
    gateway_port: int
    telemetry_s: float = 0.5
    time_s: float = 1.0

    def __post_init__(self) -> None:
        if not all(_LEAST_PACE_S <= s <= _MOST_PACE_S for s in (self.telemetry_s, self.time_s)):
            raise ValueError(f"a pace is {_LEAST_PACE_S} to {_MOST_PACE_S} s")
        if not 0 < self.number < 1 << 63 or not 0 <= self.session < 1 << 64:
            raise ValueError("a session's number is out of range")
        _check_bytes(self.key, 32, "a session's key")
        _check_port(self.time_port)
        _check_port(self.media_port)
        _check_port(self.gateway_port)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not; `final` if trying again the same way cannot help."""

    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class EpochSpec:
    """One epoch of a sealed stream: the SSRC it has on the wire, and its SRTP master key and salt.

    Its sequence numbers begin at 0 and end before 65,536, so its rollover counter is always 0.
    """

    number: int
    ssrc: int
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.number < 1 << 32 or not 0 <= self.ssrc < 1 << 32:
            raise ValueError("an epoch's number and its SSRC have 32 bits")
        _check_bytes(self.key, SEAL_KEY_BYTES, "an epoch's key")


@dataclass(frozen=True, slots=True)
class SealSpec:
    """How a stream is sealed and signed: its `StreamCertificate`, and the epochs that may come."""

    certificate: bytes
    epochs: tuple[EpochSpec, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.epochs) <= MAX_EPOCHS:
            raise ValueError(f"a sealed stream tells 1 to {MAX_EPOCHS} epochs")
        if len({epoch.number for epoch in self.epochs}) < len(self.epochs):
            raise ValueError("two epochs have one number")


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One RTP stream to play: everything a receiver need know beforehand.

    `group` is None for unicast to the loudspeaker's own media port. A frame's media sample is its
    RTP timestamp minus `timestamp_offset`; it sounds `playout_delay_ms` after its media time.
    Which of several streams is heard, `priority.heard` says. `seal` is None for a stream in clear,
    which nobody can authenticate; of a sealed one `ssrc` is only what it is known by, and each
    epoch has its own on the wire. `test` is true for what is no real announcement.
    """

    programme: str
    order: int
    ssrc: int
    payload_type: int
    timestamp_offset: int
    frame_ms: float
    inband_fec: bool
    playout_delay_ms: float
    group: str | None = None
    port: int | None = None
    priority: int = Priority.LIVE
    test: bool = False
    seal: SealSpec | None = None

    def __post_init__(self) -> None:
        if self.frame_ms not in FRAME_MS:
            raise ValueError(f"Opus has no frame of {self.frame_ms} ms")
        Priority(self.priority)
        for value, bits in ((self.ssrc, 32), (self.timestamp_offset, 32), (self.payload_type, 7)):
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{value} does not fit {bits} bits")
        if 64 <= self.payload_type <= 95:
            raise ValueError(f"payload type {self.payload_type} looks like RTCP (RFC 5761)")
        if not 0 < self.playout_delay_ms <= MAX_PLAYOUT_DELAY_MS:
            raise ValueError(f"a playout delay of {self.playout_delay_ms} ms is out of range")
        _check_group(self.group, self.port)

    @property
    def ssrcs(self) -> tuple[int, ...]:
        """What its packets may bear on the wire, the repairs of each behind it."""
        own = (self.ssrc,) if self.seal is None else tuple(e.ssrc for e in self.seal.epochs)
        return tuple(either for ssrc in own for either in (ssrc, repair_ssrc(ssrc)))


def _check_group(group: str | None, port: int | None) -> None:
    if (group is None) != (port is None):
        raise ValueError("a multicast stream has a group and a port, a unicast one neither")
    if group is not None:
        _check_port(port or 0)
        _check_port((port or 0) + 1)  # of its RTCP
        if not ipaddress.IPv4Address(group).is_multicast:
            raise ValueError(f"{group} is no multicast group")


@dataclass(frozen=True, slots=True)
class Listen:
    """Everything this loudspeaker shall listen to from now on."""

    revision: int
    streams: tuple[StreamSpec, ...]

    def __post_init__(self) -> None:
        if len({stream.ssrc for stream in self.streams}) < len(self.streams):
            raise ValueError("two streams are known by one SSRC")
        on_the_wire = [ssrc for stream in self.streams for ssrc in stream.ssrcs]
        if len(set(on_the_wire)) < len(on_the_wire):
            raise ValueError("two streams have one SSRC")


@dataclass(frozen=True, slots=True)
class Adjust:
    """How loud this loudspeaker shall be from now on: 0 to 100, of which 100 is unchanged.

    And by how many microseconds later it shall sound (earlier, if negative) than its clock says.
    """

    volume: int
    muted: bool
    trim_us: int = 0

    def __post_init__(self) -> None:
        _check_volume(self.volume)
        if abs(self.trim_us) > MAX_TRIM_US:
            raise ValueError(f"{self.trim_us} is no trim: use -{MAX_TRIM_US} to {MAX_TRIM_US} us")


@dataclass(frozen=True, slots=True)
class Command:
    """Something to do once, now: `action` is "tone", "identify" or "restart".

    `seconds` is how long a tone lasts. A command is not repeated: it is answered by `Done`, or it
    was lost with its connection.
    """

    id: int
    action: str
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.action not in {"tone", "identify", "restart"}:
            raise ValueError(f"unknown action {self.action!r}")
        if not 0 <= self.seconds <= MAX_TONE_S:
            raise ValueError(f"{self.seconds} s is no length for a tone")


def shown(text: str) -> str:
    """A text of unknown origin as a message may carry it: short, and printable."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_TEXT]


def _check_text(text: str) -> None:
    # It is shown on the terminals of people who did not choose it.
    if len(text) > MAX_TEXT or not text.isprintable():
        raise ValueError(f"a text has at most {MAX_TEXT} printable characters")


def _check_volume(volume: int) -> None:
    if not 0 <= volume <= 100:
        raise ValueError(f"{volume} is no volume: use 0 to 100")


TO_STATION = vocabulary(Hello, Enrol, Telemetry, Ready, Done)
TO_SPEAKER = vocabulary(Identity, Pending, Enrolled, Welcome, Refused, Listen, Adjust, Command)
