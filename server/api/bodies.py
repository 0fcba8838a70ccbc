"""What requests hold, as OpenAPI describes it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.api.errors import SenselessError
from server.directory import Position
from server.editing import EndpointChange
from server.enrolment import MAX_MINUTES
from server.programmes import LiveRequest
from server.rights.table import Grant, Role
from transport.control.address import StationAddress
from transport.control.messages import (
    MAX_PLAYOUT_DELAY_MS,
    MAX_TONE_S,
    MAX_TRIM_US,
    spelt_alike,
)
from transport.control.priority import Priority

Name = Annotated[str, Field(min_length=1, max_length=64)]
# Sixteen levels of names, in any spelling.
# As `server.views` tells it of loudspeakers.
State = Literal["not enrolled", "offline", "syncing", "idle", "playing"]
UnitPath = Annotated[str, Field(min_length=1, max_length=2048)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Target(_Body):
    """Whom it concerns: loudspeakers by name, whole zones, or both; `all` is everybody."""

    to: Annotated[list[Name], Field(max_length=10_000)] = []
    zones: Annotated[list[Name], Field(max_length=1_000)] = []

    def names(self) -> tuple[list[str], list[str]]:
        """Both lists in the one spelling; SenselessError if nobody is meant."""
        if not self.to and not self.zones:
            raise SenselessError("to whom? name at least one zone or loudspeaker, or all")
        to, zones = (dict.fromkeys(map(spelt_alike, names)) for names in (self.to, self.zones))
        return list(to), list(zones)


class LiveBody(Target):
    """A request to speak. Without frame_ms and playout_delay_ms the listeners' networks decide."""

    priority: str = "live"
    bitrate: Annotated[int, Field(ge=6000, le=510_000)] = 24_000
    frame_ms: float | None = None
    complexity: Annotated[int, Field(ge=0, le=10)] = 9
    dtx: bool = False
    inband_fec: bool = False
    expected_loss_percent: Annotated[int, Field(ge=0, le=100)] = 0
    playout_delay_ms: Annotated[float, Field(ge=5, le=MAX_PLAYOUT_DELAY_MS)] | None = None
    test: bool = False

    def request(self) -> LiveRequest:
        """As the station wants it; SenselessError for what could never sound."""
        to, zones = self.names()
        try:
            wanted: dict[str, Any] = {
                **self.model_dump(),
                "to": tuple(to),
                "zones": tuple(zones),
                "priority": Priority.parse(self.priority),
            }
            return LiveRequest(**wanted)
        except ValueError as error:
            raise SenselessError(str(error)) from None


class VolumeBody(Target):
    """How loud, 0 to 100."""

    volume: Annotated[int, Field(ge=0, le=100)]


class MuteBody(Target):
    """Whether silent."""

    muted: bool


class ToneBody(Target):
    """A test tone, 1 kHz at -20 dBFS."""

    seconds: Annotated[float, Field(gt=0, le=MAX_TONE_S)] = 2.0


class PositionBody(_Body):
    """A place in WGS-84 degrees."""

    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]

    def place(self) -> Position:
        """As the station wants it."""
        return Position(self.latitude, self.longitude)


class SpeakerBody(_Body):
    """What shall be different about a loudspeaker; what is left out stays as it is.

    One that is `clear` plays what goes out in clear, which nobody can authenticate. One that has a
    `trim_us` sounds so many microseconds later than its clock alone would have it, or earlier.
    """

    unit: UnitPath | None = None
    tags: Annotated[list[Name], Field(max_length=32)] | None = None
    position: PositionBody | None = None
    clear: bool | None = None
    trim_us: Annotated[int, Field(ge=-MAX_TRIM_US, le=MAX_TRIM_US)] | None = None

    @property
    def says_more(self) -> bool:
        """Whether anything is to be different at all."""
        return bool(self.model_fields_set)

    def change(self) -> EndpointChange:
        """As the station wants it."""
        where = self.position
        return EndpointChange(
            unit=self.unit,
            tags=None if self.tags is None else frozenset(self.tags),
            position=None if where is None else where.place(),
            clear=self.clear,
            trim_us=self.trim_us,
        )


class DistanceBody(Target):
    """From where sound spreads, and whether loudspeakers shall keep the trims that follow."""

    origin: PositionBody
    temperature_c: Annotated[float, Field(ge=-40, le=60, allow_inf_nan=False)] = 20.0
    store: bool = False


class EnrolmentBody(_Body):
    """For whom to make codes, good once each; an empty name is for whoever comes.

    `address` is where loudspeakers shall find the station; without it, where it was called.
    """

    names: Annotated[
        list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=1_000)
    ]
    unit: UnitPath | None = None
    minutes: Annotated[int, Field(ge=1, le=MAX_MINUTES)] = 60
    address: Annotated[str, Field(max_length=300)] | None = None

    def station(self, called: str, reachable: StationAddress) -> StationAddress:
        """Where loudspeakers shall find it; SenselessError for no address.

        Where it was called, or `reachable` if that is an address of this machine alone.
        """
        try:
            if self.address is not None:
                return StationAddress.parse(self.address)
            address = StationAddress.parse(called)
        except ValueError as error:
            raise SenselessError(str(error)) from None
        return reachable if address.is_here else address


class ApprovalBody(_Body):
    """What a loudspeaker that waits shall be called, and where it belongs."""

    name: Name
    unit: UnitPath | None = None


class ZoneBody(_Body):
    """A zone's definition; its forms are described in docs/zones.md.

    Where it is `clear`, stock players may hear it, who can authenticate nothing.
    """

    definition: dict[str, Any]
    clear: bool | None = None


class ZoneChangeBody(_Body):
    """What shall be different about a zone, from the next programme on."""

    clear: bool


class UnitBody(_Body):
    """A unit's path from the station's own unit, such as `Tân Phú/Thôn 3`."""

    path: UnitPath


class LoginBody(_Body):
    """Who signs in; `code` where the user has one-time codes."""

    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=1024)]
    code: Annotated[str, Field(max_length=16)] | None = None


class GrantBody(_Body):
    """A role at a unit and everything below it."""

    role: Annotated[str, Field(max_length=32)]
    unit: UnitPath

    def grant(self) -> Grant:
        """As the station wants it; StationError for what is no role."""
        return Grant(Role.parse(self.role), self.unit)


class UserBody(_Body):
    """A new user; the password is good for one sign-in, at which another is chosen."""

    name: Name
    password: Annotated[str, Field(max_length=1024)]
    grants: Annotated[list[GrantBody], Field(max_length=100)] = []


class UserChangeBody(_Body):
    """Whether a user is shut out."""

    disabled: bool


class PasswordBody(_Body):
    """Another password."""

    password: Annotated[str, Field(max_length=1024)]


class CodesBody(_Body):
    """A code of the secret that was shown last; without one, another secret is shown."""

    code: Annotated[str, Field(max_length=16)] | None = None


class TokenBody(_Body):
    """What a program shall be able to do in your place; `urgent` if that is to speak urgently."""

    label: Name
    grants: Annotated[list[GrantBody], Field(min_length=1, max_length=100)]
    days: Annotated[int, Field(ge=1, le=365)] = 90
    urgent: bool = False


class StopBody(_Body):
    """Which programmes to end; all of them if none is named."""

    programmes: Annotated[list[Name], Field(max_length=100)] = []
