"""What goes wrong between the station and the people who use it."""


class StationError(Exception):
    """A request that cannot be met; one line for the person who made it."""


class NoSuchError(StationError):
    """What was named does not exist."""
