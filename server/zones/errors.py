"""What can be wrong with a zone."""

from server.directory import DirectoryError
from server.errors import NoSuchError


class ZoneError(DirectoryError):
    """A zone that cannot be; one line that says why, and where in its definition."""


class NoSuchZoneError(ZoneError, NoSuchError):
    """The zone that was named does not exist."""
