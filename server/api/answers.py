"""What the API answers, as OpenAPI describes it: each answer is checked against its form here.

Names say their units: `_us` microseconds, `_ms` milliseconds, `_s` seconds, `_dbfs` decibels below
full scale; an instant in a number is UTC seconds. What is not there is not known.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from server.api.bodies import State


class _Answer(BaseModel):
    # What is answered and not described here is a mistake of ours.
    model_config = ConfigDict(extra="forbid")


# ------------------------------------------------------------------ the station
class Ports(_Answer):
    """Where the station listens: UDP, but for `control` and `gateway`."""

    control: int
    ingest: int
    time: int
    media: int
    rtcp: int
    gateway: int


class SenderFigures(_Answer):
    """What all senders together have sent; lateness is against each packet's own slot."""

    datagrams: int
    overruns: int
    errors: int
    stale: int
    queue: int
    late_p99_ms: float | None
    late_max_ms: float


class UsherFigures(_Answer):
    """What answers the time, and hears how packets arrive, has done."""

    time_answers: int
    malformed: int
    refused: int
    dropped: int
    paths: int
    receivers_reporting: int
    worst_fraction_lost: float


class StepFigures(_Answer):
    """How far neighbours are out of step with each other; `worst` are the two furthest apart."""

    speakers: int
    p95_us: float
    worst_us: float
    worst: list[str]
    out_of_step: int


class _Nothing(_Answer):
    """Not known, or not for whoever sees only a part of the station."""


class StationAnswer(_Answer):
    """The station at a glance, or the part of it that is seen."""

    name: str
    ports: Ports
    speakers: int
    sessions: int
    online: int
    zones: int
    programmes: int
    sender: SenderFigures | _Nothing
    usher: UsherFigures | _Nothing
    step: StepFigures | _Nothing


class Place(_Answer):
    """Where a loudspeaker has found its station."""

    host: str
    port: int


class FoundAnswer(_Answer):
    """A loudspeaker that mDNS has found."""

    name: str
    address: str
    station: Place | None
    registered: bool


# ------------------------------------------------------------------ loudspeakers
class Degrees(_Answer):
    """A place in WGS-84 degrees."""

    latitude: float
    longitude: float


class SpeakerAnswer(_Answer):
    """A loudspeaker: what it is to be, how it is, and what it has said last.

    The figures from `hearing` on are there once it has told of itself.
    """

    name: str
    unit: str
    tags: list[str]
    position: Degrees | None
    delivery: str
    multicast: bool
    volume: int
    muted: bool
    trim_us: int
    enrolled: bool
    clear: bool
    authenticated: bool
    state: State
    address: str | None
    last_seen_s: float | None
    in_step: bool | None
    step_error_us: float | None
    step_neighbours: int
    fault: str
    hearing: str = ""
    way: str = ""
    level_dbfs: float | None = None
    sync_error_us: float = 0.0
    clock_uncertainty_us: float = 0.0
    loss: float = 0.0
    missed: float = 0.0
    packets_received: int = 0
    packets_lost: int = 0
    packets_late: int = 0
    packets_missed: int = 0
    packets_dropped: int = 0
    recent_loss: float = 0.0
    longest_burst_ms: float = 0.0
    jitter_ms: float = 0.0
    underruns: int = 0
    uptime_s: float = 0.0


class ChangedAnswer(_Answer):
    """Whose setting is another now."""

    changed: list[str]


class CommandAnswer(_Answer):
    """Who has done it, and why others have not."""

    done: list[str]
    failed: dict[str, str]


class TrimAnswer(_Answer):
    """How much later one sounds, for how far away it is."""

    name: str
    distance_m: float
    before_us: int
    trim_us: int


class DistanceAnswer(_Answer):
    """The trims that follow from a place."""

    trims: list[TrimAnswer]
    stored: bool


# ------------------------------------------------------------------ programmes
class TicketAnswer(_Answer):
    """A programme is open; `ticket` is what its voice shows at `ingest_port`."""

    programme: str
    ticket: str
    ingest_port: int
    time_port: int
    playout_delay_ms: float
    listening: list[str]
    not_listening: list[str]
    sdp: str | None


class ProgrammeAnswer(_Answer):
    """What is on air; lists by encoding stand in the order of `frames_ms`."""

    name: str
    to: list[str]
    zones: list[str]
    priority: str
    state: str
    seconds: float
    level_dbfs: float | None
    playout_delay_ms: float
    frames_ms: list[float]
    copies_ms: list[list[float]]
    codes: list[list[int] | None]
    speakers: int
    interrupted_at: int
    not_in_step: list[str]
    test: bool
    authenticated: bool
    sdp: str | None


class PastAnswer(_Answer):
    """What was on air; `request` as it was opened."""

    number: int
    name: str
    priority: int
    request: dict[str, Any]
    playout_delay_ms: float
    began_at: int
    ended_at: int | None
    why_ended: str | None


class StreamKey(_Answer):
    """What opens one encoding in this epoch (RFC 7714); `key` and `ssrc` in hexadecimal."""

    frame_ms: float
    payload_type: int
    timestamp_offset: int
    group: str | None
    port: int | None
    epoch: int
    ssrc: str
    key: str


class KeyAnswer(_Answer):
    """What a stock player needs to open a programme."""

    programme: str
    streams: list[StreamKey]


class EndedAnswer(_Answer):
    """Which programmes ended now."""

    ended: list[str]


# ------------------------------------------------------------------ units and zones
class UnitAnswer(_Answer):
    """A unit, in the one spelling."""

    path: str


class ZoneRow(_Answer):
    """A zone, and how many loudspeakers are in it."""

    name: str
    definition: dict[str, Any]
    speakers: int
    authenticated: bool


class ZoneAnswer(_Answer):
    """A zone, and who is in it."""

    name: str
    definition: dict[str, Any]
    speakers: list[str]
    authenticated: bool


class PreviewAnswer(_Answer):
    """Who would be in a zone."""

    speakers: list[str]


# ------------------------------------------------------------------ enrolment
class CodeAnswer(_Answer):
    """A code that nobody has used; what it says was shown once."""

    number: str
    name: str
    unit: str | None
    expires_in_s: int
    in_use: bool


class IssuedCode(_Answer):
    """A new code: `code` is what a loudspeaker is given, and is shown this once."""

    number: str
    name: str
    unit: str | None
    expires_in_s: int
    replaces: bool
    code: str


class IssuedAnswer(_Answer):
    """New codes."""

    codes: list[IssuedCode]


class WaitingAnswer(_Answer):
    """A loudspeaker that waits to be approved, by its key's fingerprint."""

    key: str
    name: str
    unit: str | None
    address: str
    waits_s: float


class ApprovedAnswer(_Answer):
    """What a loudspeaker is called now."""

    name: str


# ------------------------------------------------------------------ users
class GrantAnswer(_Answer):
    """A role at a unit and everything below it."""

    role: str
    unit: str


class SessionAnswer(_Answer):
    """A session, which is shown like a token; until `fresh_until` it may do what is dangerous."""

    session: str
    expires: int
    fresh_until: int
    must_choose_password: bool


class IdentityAnswer(_Answer):
    """Who asks, and what that may do where."""

    name: str
    kind: str
    grants: list[GrantAnswer]
    fresh: bool
    must_choose_password: bool


class UserAnswer(_Answer):
    """A user, with the rights that the asker administers."""

    name: str
    grants: list[GrantAnswer]
    disabled: bool
    must_choose_password: bool
    codes: bool


class TotpAnswer(_Answer):
    """Whether one-time codes are wanted; if not yet, the secret to confirm with one."""

    codes: bool
    secret: str | None = None
    uri: str | None = None


class TokenAnswer(_Answer):
    """A token; `expires` in UTC seconds."""

    number: str
    owner: str
    label: str
    grants: list[GrantAnswer]
    urgent: bool
    expires: int


class NewTokenAnswer(TokenAnswer):
    """The same with the token itself, which is shown this once."""

    token: str


# ------------------------------------------------------------------ the audit log
class AuditRowAnswer(_Answer):
    """A row; `on` is JSON, or a text where somebody has changed it. AUDIT.md says what each is."""

    seq: int
    at: str
    who: str
    where: str
    what: str
    on: Any
    why: str
    outcome: str
    hash: str


class SignedAnswer(_Answer):
    """Up to which row the log is signed, and when that was."""

    seq: int
    at: str


class AnchorAnswer(_Answer):
    """An anchor: the last head it took, how many wait, and what is wrong with it, if anything."""

    shown: str
    seq: int
    waiting: int
    fault: str


class AuditStateAnswer(_Answer):
    """How the log is kept."""

    signed: SignedAnswer | None
    anchors: list[AnchorAnswer]
