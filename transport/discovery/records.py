"""What a station and a loudspeaker say of themselves by DNS-SD (RFC 6763).

| service | SRV port | TXT |
|---|---|---|
| `_loa._tcp.local.`, a station | control | `v=1`, `name=`, `root=` |
| `_loa-speaker._udp.local.`, a loudspeaker | 0: it takes no calls | `v=1`, `name=`, `station=` |

`root=` is the fingerprint of a station's root key as people are shown it: whose station it says to
be, and proves only when it is joined. `station=` is the host:port a loudspeaker has joined, or
empty.
"""

import hashlib
import ipaddress
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from transport.control.address import StationAddress
from transport.control.messages import check_name, spelt_alike

STATION_TYPE = "_loa._tcp.local."
SPEAKER_TYPE = "_loa-speaker._udp.local."
MDNS_GROUP = "224.0.0.251"
MDNS_PORT = 5353
MAX_MDNS_DATAGRAM = 9000  # RFC 6762 section 17
_VERSION = "1"
_MAX_NAME = 64
_MAX_LABEL_BYTES = 56  # 63, less what is put after it to tell two of the same name apart
_MAX_STRING_BYTES = 255


@dataclass(frozen=True, slots=True)
class FoundStation:
    """A station that answers: its name (NFC), IPv4 address, control port, and the root it claims.

    Nothing of it is proved; `root` is empty where it claims none.
    """

    name: str
    address: str
    port: int
    root: str = ""

    @property
    def server(self) -> StationAddress:
        """Where to join it."""
        return StationAddress(self.address, self.port)


@dataclass(frozen=True, slots=True)
class FoundSpeaker:
    """A loudspeaker that answers: name (NFC), IPv4 address, and the station it has joined."""

    name: str
    address: str
    station: StationAddress | None


def station_name(text: str) -> str:
    """A station's name, NFC: 1 to 64 printable characters, or ValueError.

    Printable, for it is shown on the terminals of people who never chose it.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise ValueError(f"{text!r} is no station's name: use 1 to 64 printable characters")
    return name


def instance_label(name: str, tag: str = "") -> str:
    """The one label under which a name is listed (RFC 6763 section 4.1.1), at most 63 bytes.

    A dot would make two labels of it, and a name may be longer than a label; the true name is in
    the TXT record. `tag` tells apart what may bear the same name.
    """
    marks = f" ({tag})" if tag else ""
    room = _MAX_LABEL_BYTES - len(marks.encode())
    plain = "".join(c if c.isprintable() and c != "." else "-" for c in name)
    return plain.encode()[:room].decode(errors="ignore").strip() + marks


def tag_of(*parts: str) -> str:
    """Eight hexadecimal digits that are the same whenever the parts are, and hardly otherwise."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def to_txt(pairs: Mapping[str, str]) -> bytes:
    """TXT data (RFC 6763 section 6); a value that is too long for its string is cut."""
    strings = []
    for key, value in {"v": _VERSION, **pairs}.items():
        whole = f"{key}={value}".encode()[:_MAX_STRING_BYTES]
        strings.append(whole.decode(errors="ignore").encode())
    return b"".join(bytes([len(string)]) + string for string in strings)


def from_txt(data: bytes) -> dict[str, str]:
    """The pairs of TXT data; ValueError if it is not UTF-8 or of another version of ours.

    Of a key that comes twice the first counts, and case does not (RFC 6763 section 6.4).
    """
    pairs: dict[str, str] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        key, _, value = data[at + 1 : end].decode().partition("=")
        pairs.setdefault(key.lower(), value)
        at = end
    if pairs.get("v") != _VERSION:
        raise ValueError("another version")
    return pairs


def speaker_txt(name: str, station: str) -> bytes:
    """A loudspeaker's TXT data; `station` is host:port, or empty."""
    return to_txt({"name": name, "station": station})


def station_txt(name: str, root: str = "") -> bytes:
    """A station's TXT data; `root` is its root key's fingerprint as shown."""
    return to_txt({"name": name, "root": root} if root else {"name": name})


def found_speaker(txt: bytes, address: str) -> FoundSpeaker:
    """A loudspeaker by its records; ValueError for what is none of ours."""
    pairs = from_txt(txt)
    joined = pairs.get("station", "")
    return FoundSpeaker(
        check_name(spelt_alike(pairs.get("name", ""))),
        address,
        StationAddress.parse(joined) if joined else None,
    )


def is_host(address: ipaddress.IPv4Address) -> bool:
    """Whether one machine may have this address."""
    return not (address.is_multicast or address.is_unspecified or address.is_reserved)
