"""Who is heard. One pure function, the same on the station and on the loudspeaker."""

from collections.abc import Iterable

from transport.control.messages import StreamSpec


def heard(streams: Iterable[StreamSpec]) -> StreamSpec | None:
    """Of live voices of equal priority the later one; when it ends, the earlier again."""
    return max(streams, key=lambda stream: stream.order, default=None)
