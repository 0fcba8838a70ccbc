"""Why somebody is not signed in, or a user is not changed."""

from server.errors import StationError


class UserError(StationError):
    """A change of users that cannot be made; one line that says why."""


class SignInError(StationError):
    """Nobody is signed in by that; the line tells nothing of which part was wrong."""


class CodeWantedError(SignInError):
    """The password was right, and this user has one-time codes as well."""


class TooManyAttemptsError(StationError):
    """So many have failed that the next is not looked at before `wait_s` seconds are over."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many attempts to sign in: try again in {wait_s} s")
        self.wait_s = wait_s
