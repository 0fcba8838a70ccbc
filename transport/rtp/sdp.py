"""One Opus stream in words that other people's players read (SDP, RFC 8866 and RFC 7587 section 7).

The clock lines (RFC 7273) say what an RTP timestamp means in time, so that a GStreamer receiver
can play in step with our own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from transport.errors import MalformedPacket
from transport.seq import require_unsigned

__all__ = ["MAX_SDP_BYTES", "StreamDescription", "parse_address"]

MAX_SDP_BYTES = 8192  # eight times what SAP recommends (RFC 2974 section 6)
_MAX_TEXT_BYTES = 255
_DEFAULT_NTP_PORT = 123
_REFERENCE_CLOCK = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+)(?::([0-9]{1,5}))?")


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """Return the address; `ValueError` unless it is in its one canonical form and has no scope.

    One form only, because descriptions are compared, and no `%scope`, because interface names
    mean nothing on another machine.
    """
    address = ip_address(text)
    if "%" in text or str(address) != text:
        raise ValueError(f"not a canonical address: {text!r}")
    return address


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """Everything a player must know to hear one stream.

    `ttl` is set for an IPv4 multicast destination and for no other (RFC 8866 section 5.7).
    `timestamp_offset_at_ntp_epoch` is the RTP timestamp at 1 January 1900 of the reference clock
    (RFC 7273 section 5.2). `reference_clock` is the NTP server as `host:port`. `source` limits a
    multicast session to one sender (RFC 4570).
    """

    session_name: str
    session_id: int
    session_version: int
    origin_address: str
    destination: str
    port: int
    payload_type: int
    ssrc: int
    cname: str
    timestamp_offset_at_ntp_epoch: int
    ttl: int | None = None
    channels: int = 1
    frame_ms: int = 20
    bitrate_bps: int | None = None
    in_band_fec: bool = False
    dtx: bool = False
    reference_clock: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        for name, bits in (("session_id", 64), ("session_version", 64), ("ssrc", 32)):
            require_unsigned(name, getattr(self, name), bits)
        require_unsigned("timestamp offset", self.timestamp_offset_at_ntp_epoch, 32)
        _require_range("port", self.port, 1, 65535)
        _require_range("payload_type", self.payload_type, 96, 127)  # RFC 3551 section 3
        _require_range("channels", self.channels, 1, 2)
        _require_range("frame_ms", self.frame_ms, 1, 120)
        if self.bitrate_bps is not None:
            _require_range("bitrate_bps", self.bitrate_bps, 6000, 510_000)  # RFC 7587 section 6.1
        _require_line("session_name", self.session_name)
        _require_line("cname", self.cname)
        self._check_addresses()

    def _check_addresses(self) -> None:
        parse_address(self.origin_address)
        destination = parse_address(self.destination)
        if (self.ttl is not None) != (destination.is_multicast and destination.version == 4):
            raise ValueError("an IPv4 multicast destination has a TTL and no other has")
        if self.ttl is not None:
            require_unsigned("ttl", self.ttl, 8)
        if self.source is not None and parse_address(self.source).version != destination.version:
            raise ValueError("source and destination must be of one address family")
        if self.reference_clock is not None:
            match = _REFERENCE_CLOCK.fullmatch(self.reference_clock)
            if match is None or match[2] is None:
                raise ValueError(f"want host:port of an NTP server, got {self.reference_clock!r}")

    @classmethod
    def parse(cls, text: str) -> StreamDescription:
        """Read the first audio stream, ignoring lines we do not know.

        Raises `MalformedPacket` for anything missing, wrong or larger than `MAX_SDP_BYTES`, and
        for a source filter we could not honour.
        """
        if len(text) > MAX_SDP_BYTES:
            raise MalformedPacket("sdp_size")
        try:
            return _read(_Lines.split(text))
        except KeyError:
            raise MalformedPacket("sdp_missing_line") from None
        except ValueError:  # from a number, an address or our own validation
            raise MalformedPacket("sdp_value") from None

    def serialise(self) -> str:
        """Return the session description, lines ended by CRLF."""
        payload_type = self.payload_type
        destination = _tagged(self.destination)
        lines = [
            "v=0",
            f"o=- {self.session_id} {self.session_version} IN {_tagged(self.origin_address)}",
            f"s={self.session_name}",
            f"c=IN {destination}" + (f"/{self.ttl}" if self.ttl is not None else ""),
            "t=0 0",
            "a=tool:loa",
            "a=recvonly",
        ]
        if self.source is not None:
            lines.append(f"a=source-filter: incl IN {destination} {self.source}")
        lines += [
            f"m=audio {self.port} RTP/AVP {payload_type}",
            # Always two channels at 48 kHz, whatever is inside (RFC 7587 section 7).
            f"a=rtpmap:{payload_type} opus/48000/2",
            f"a=fmtp:{payload_type} {self._format_parameters()}",
            f"a=ptime:{self.frame_ms}",
            f"a=ssrc:{self.ssrc} cname:{self.cname}",
        ]
        # At media level, where GStreamer looks for them.
        if self.reference_clock is not None:
            lines.append(f"a=ts-refclk:ntp={self.reference_clock}")
        lines.append(f"a=mediaclk:direct={self.timestamp_offset_at_ntp_epoch}")
        return "".join(f"{line}\r\n" for line in lines)

    def _format_parameters(self) -> str:
        stereo = int(self.channels == 2)
        parameters = [
            f"sprop-stereo={stereo}",
            f"stereo={stereo}",
            f"useinbandfec={int(self.in_band_fec)}",
            f"usedtx={int(self.dtx)}",
        ]
        if self.bitrate_bps is not None:
            parameters.append(f"maxaveragebitrate={self.bitrate_bps}")
        return ";".join(parameters)


@dataclass(slots=True)
class _Lines:
    """The lines of the session and of its first audio stream; the first of a kind wins."""

    values: dict[str, str] = field(default_factory=dict)
    attributes: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def split(cls, text: str) -> _Lines:
        # Not splitlines(), which also breaks at characters that may stand in a UTF-8 name.
        session, media = cls(), cls()
        section = session
        for line in text.split("\n"):
            kind, _, value = line.removesuffix("\r").partition("=")
            if kind == "m":
                is_first_audio = value.startswith("audio ") and "m" not in media.values
                section = media if is_first_audio else cls()
            section.add(kind, value)
        # What is said of the stream overrides what is said of the session (RFC 8866 section 5).
        return cls(session.values | media.values, media.attributes + session.attributes)

    def add(self, kind: str, value: str) -> None:
        if kind == "a":
            name, _, argument = value.partition(":")
            self.attributes.append((name, argument))
        else:
            self.values.setdefault(kind, value)

    def find(self, name: str, start: str = "") -> str | None:
        """Return the rest of the first attribute `name` whose value starts with `start`."""
        found = (value for key, value in self.attributes if key == name and value.startswith(start))
        value = next(found, None)
        return None if value is None else value[len(start) :]

    def get(self, name: str, start: str = "") -> str:
        value = self.find(name, start)
        if value is None:
            raise KeyError(name)
        return value


def _read(lines: _Lines) -> StreamDescription:
    if lines.values["v"] != "0":
        raise ValueError("version")
    _, session_id, session_version, *origin = lines.values["o"].split(" ")
    destination, ttl = _read_connection(lines.values["c"])
    port, payload_type = _read_media(lines.values["m"])
    if lines.get("rtpmap", f"{payload_type} ").strip().lower() != "opus/48000/2":
        raise ValueError("rtpmap")
    parameters = _read_format_parameters(lines.find("fmtp", f"{payload_type} ") or "")
    bitrate = parameters.get("maxaveragebitrate")
    ssrc, cname = _read_ssrc(lines)
    return StreamDescription(
        session_name=lines.values["s"],
        session_id=_number(session_id),
        session_version=_number(session_version),
        origin_address=_read_address(origin),
        destination=destination,
        port=port,
        payload_type=payload_type,
        ssrc=ssrc,
        cname=cname,
        timestamp_offset_at_ntp_epoch=_number(lines.get("mediaclk", "direct=")),
        ttl=ttl,
        channels=2 if parameters.get("sprop-stereo") == "1" else 1,
        frame_ms=_number(lines.find("ptime") or "20"),  # the default of RFC 7587 section 7
        bitrate_bps=None if bitrate is None else _number(bitrate),
        in_band_fec=parameters.get("useinbandfec") == "1",
        dtx=parameters.get("usedtx") == "1",
        reference_clock=_read_reference_clock(lines.find("ts-refclk", "ntp=")),
        source=_read_source(lines.find("source-filter"), destination),
    )


def _read_connection(value: str) -> tuple[str, int | None]:
    *tags, address = value.split(" ")
    address, slash, ttl = address.partition("/")
    return _read_address([*tags, address]), _number(ttl) if slash else None


def _read_media(value: str) -> tuple[int, int]:
    _, port, profile, payload_type, *_ = value.split(" ")
    if profile != "RTP/AVP":
        raise ValueError("profile")
    return _number(port), _number(payload_type)


def _read_address(tagged: list[str]) -> str:
    network, family, text = tagged
    address = ip_address(text)
    if network != "IN" or family != f"IP{address.version}":
        raise ValueError("address family")
    return str(address)


def _read_format_parameters(value: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in value.split(";"))
    return {name.strip().lower(): argument.strip() for name, _, argument in pairs}


def _read_ssrc(lines: _Lines) -> tuple[int, str]:
    for name, value in lines.attributes:
        ssrc, _, attribute = value.partition(" ")
        if name == "ssrc" and attribute.startswith("cname:"):
            return _number(ssrc), attribute.removeprefix("cname:")
    raise KeyError("ssrc")


def _read_reference_clock(value: str | None) -> str | None:
    """Return `host:port`, or `None` for a clock of a kind we cannot ask, such as `/traceable/`."""
    match = _REFERENCE_CLOCK.fullmatch(value or "")
    return f"{match[1]}:{match[2] or _DEFAULT_NTP_PORT}" if match else None


def _read_source(value: str | None, destination: str) -> str | None:
    """Return the only sender allowed. A filter we cannot honour is refused, not ignored."""
    if value is None:
        return None
    mode, network, family, group, source = value.split()
    if mode != "incl" or group not in {destination, "*"}:
        raise ValueError("source filter")
    return _read_address([network, family, source])


def _tagged(address: str) -> str:
    return f"IP{ip_address(address).version} {address}"


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):  # int() also takes signs, spaces, underscores
        raise ValueError("number")
    return int(text)


def _require_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low} to {high}, got {value}")


def _require_line(name: str, text: str) -> None:
    if not 1 <= len(text.encode()) <= _MAX_TEXT_BYTES or any(c in text for c in "\0\r\n"):
        raise ValueError(f"{name} must be one line of 1 to {_MAX_TEXT_BYTES} bytes")
