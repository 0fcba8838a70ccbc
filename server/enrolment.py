"""Who may become a loudspeaker of this station: codes, and who waits to be named. Pure state.

A code is a secret that is shown once, to whoever asks for it; the station keeps a hash. It admits
one loudspeaker, and is gone then. `now` and whatever is random are arguments.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from server.bucket import Bucket
from server.errors import NoSuchError, StationError
from transport.control.messages import Enrol, check_name, spelt_alike
from transport.errors import MalformedPacket
from transport.security.enrolment import check_enrolment_mac, key_of, number_of
from transport.security.keys import shown_fingerprint

MAX_CODES = 20_000
MAX_WAITING = 1_000
MAX_MINUTES = 365 * 24 * 60
SECRET_BYTES = 10
NUMBER_BYTES = 4
KEY_BYTES = 32
_STRANGERS_A_SECOND = 10
_STRANGERS_AT_ONCE = 50
_NS_PER_SECOND = 1_000_000_000


class EnrolmentError(StationError):
    """Why a loudspeaker or an operator does not get what was asked for; one line.

    `final` if the loudspeaker need not ask again.
    """

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class TooManyStrangersError(Exception):
    """So many have guessed in vain that one more is not worth an answer."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code that nobody has used. `key` is the hash of its secret, by which a proof is checked.

    `name` is empty where a person shall name whoever comes; `unit` is None for wherever the
    loudspeaker is already, or the station's own. `expires_s` is in UTC seconds. `reach` is where
    whoever asked for it may enrol, by units, None for everywhere: it admits nobody outside, though
    the loudspeaker of that name may have been moved meanwhile.
    """

    number: bytes
    key: bytes
    name: str
    unit: str | None
    expires_s: int
    reach: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.number) != NUMBER_BYTES or len(self.key) != KEY_BYTES:
            raise ValueError("a code has a number of 4 bytes and a hash of 32")


class Issued(NamedTuple):
    """A new code, and its secret, which is kept nowhere."""

    code: Code
    secret: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """A loudspeaker whose code was right, and which a person has yet to approve.

    `wish` is what it would like to be called.
    """

    key: bytes
    code: Code
    wish: str
    address: str
    delivery: str
    multicast: bool
    since_ns: int


class Enrolment:
    """The codes that nobody has used, and the loudspeakers that wait to be approved."""

    def __init__(self, codes: Iterable[Code] = ()) -> None:
        self._codes = {code.number: code for code in codes}
        # Whose key a code is being used for: until that is written, or a person has decided.
        self._holders: dict[bytes, bytes] = {}
        self._waiting: dict[bytes, Waiting] = {}
        self._strangers = Bucket(_STRANGERS_A_SECOND, _STRANGERS_AT_ONCE)

    @property
    def codes(self) -> tuple[Code, ...]:
        """Those that nobody has used."""
        return tuple(self._codes.values())

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Those who wait, who came first first."""
        return tuple(self._waiting.values())

    def has(self, code: Code) -> bool:
        """Whether it can still be used."""
        return self._codes.get(code.number) == code

    def is_held(self, code: Code) -> bool:
        """Whether somebody is using it."""
        return code.number in self._holders

    # ------------------------------------------------------------- codes
    def draw(
        self,
        names: Sequence[str],
        unit: str | None,
        expires_s: int,
        random_bytes: Callable[[int], bytes],
        reach: tuple[str, ...] | None = None,
    ) -> list[Issued]:
        """A new code for each name, which may be empty; nobody can use them before `put`.

        EnrolmentError for what is no name, or there twice, and for one code too many.
        """
        names = [name and _checked(spelt_alike(name)) for name in names]
        given = [name for name in names if name]
        twice = [name for name, times in Counter(given).items() if times > 1]
        if twice:
            raise EnrolmentError(f"{twice[0]!r} is there twice: name each loudspeaker once")
        left = len(self._codes) - len(self.superseded(given))
        if left + len(names) > MAX_CODES:
            raise EnrolmentError(
                f"{MAX_CODES} codes may be outstanding, and {left} are: "
                "wait until some are used, or cancel them"
            )
        drawn: dict[bytes, Issued] = {}
        for name in names:
            issued = self._draw(name, unit, expires_s, random_bytes, drawn)
            issued = issued._replace(code=replace(issued.code, reach=reach))
            drawn[issued.code.number] = issued
        return list(drawn.values())

    def _draw(
        self,
        name: str,
        unit: str | None,
        expires_s: int,
        random_bytes: Callable[[int], bytes],
        drawn: dict[bytes, Issued],
    ) -> Issued:
        while True:
            secret = random_bytes(SECRET_BYTES)
            number = number_of(secret)
            # Of 20,000 numbers of 32 bits two are alike once in twenty stations.
            if number not in self._codes and number not in drawn:
                return Issued(Code(number, key_of(secret), name, unit, expires_s), secret)

    def superseded(self, names: Iterable[str]) -> list[Code]:
        """The codes for these names that there are: a newer one takes their place."""
        wanted = {name for name in names if name}
        return [code for code in self._codes.values() if code.name in wanted]

    def expired(self, now_s: int) -> list[Code]:
        """The codes that are too old; one in use is in use."""
        return [
            code
            for code in self._codes.values()
            if code.expires_s <= now_s and code.number not in self._holders
        ]

    def put(self, new: Iterable[Code], removed: Iterable[Code] = ()) -> None:
        """These may be used from now on, and those no more."""
        for code in removed:
            self.spend(code.number)
        self._codes.update((code.number, code) for code in new)

    def code(self, number: bytes) -> Code:
        """A code by its number; NoSuchError if there is none."""
        found = self._codes.get(number)
        if found is None:
            raise NoSuchError("there is no such code: `loa enrol list` lists those there are")
        return found

    # ------------------------------------------------------------- who comes with one
    def check(self, enrol: Enrol, station_nonce: bytes, tls_hash: bytes, now_ns: int) -> Code:
        """The code that this loudspeaker knows.

        Whoever has the right one is never held up. EnrolmentError for a wrong one;
        TooManyStrangersError where too many wrong ones have come before it.
        """
        code = self._codes.get(enrol.code)
        if code is not None and code.expires_s > now_ns // _NS_PER_SECOND:
            try:
                check_enrolment_mac(code.key, enrol.mac, station_nonce, tls_hash, enrol.key)
            except MalformedPacket:
                pass
            else:
                return code
        if not self._strangers.take(now_ns):
            raise TooManyStrangersError
        raise EnrolmentError(
            "this code is not known here, was used, or is too old: get another with `loa enrol`",
            final=True,
        )

    def hold(self, code: Code, key: bytes) -> None:
        """This loudspeaker, and no other, is using the code; EnrolmentError if it cannot."""
        if code.number not in self._codes:
            raise EnrolmentError("this code was used: get another with `loa enrol`", final=True)
        if self._holders.get(code.number, key) != key:
            raise EnrolmentError("another loudspeaker is using this code")
        self._holders[code.number] = key

    def release(self, code: Code) -> None:
        """It was not used after all."""
        self._holders.pop(code.number, None)

    def spend(self, number: bytes) -> None:
        """It was used, or is cancelled: nobody can use it any more."""
        self._codes.pop(number, None)
        self._holders.pop(number, None)

    # ------------------------------------------------------------- who waits
    def wait(self, waiting: Waiting) -> None:
        """A loudspeaker with a code for whoever comes; EnrolmentError if it cannot wait here.

        Nobody else can use its code meanwhile.
        """
        before = self._waiting.get(waiting.key)
        if before is None and len(self._waiting) >= MAX_WAITING:
            raise EnrolmentError(f"{MAX_WAITING} loudspeakers wait to be approved already")
        self.hold(waiting.code, waiting.key)
        if before is not None and before.code != waiting.code:
            self.release(before.code)
        self._waiting[waiting.key] = waiting

    def leave(self, key: bytes) -> None:
        """It has gone, and may come back with its code."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            self.release(waiting.code)

    def decide(self, waiting: Waiting) -> None:
        """A person has decided: it waits no more, and its code is spent."""
        self._waiting.pop(waiting.key, None)
        self.spend(waiting.code.number)

    def is_waiting(self, key: bytes) -> bool:
        """Whether a person has yet to decide on it."""
        return key in self._waiting

    def waiting_as(self, fingerprint: str) -> Waiting:
        """Who waits, by its key's fingerprint as it is shown, however that is typed.

        NoSuchError if nobody does.
        """
        wanted = _plain(fingerprint)
        for waiting in self._waiting.values():
            if _plain(shown_fingerprint(waiting.key)) == wanted:
                return waiting
        raise NoSuchError(
            "no loudspeaker with this key waits to be approved: `loa enrol list` lists who does"
        )


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise EnrolmentError(str(error)) from None


def _plain(fingerprint: str) -> str:
    return "".join(letter for letter in fingerprint if letter.isalnum()).upper()
