"""The station's keys: the root that loudspeakers trust, and the key it certifies to speak.

Only `loa init` and `loa keys` read the root; it may be kept elsewhere. Control reads the rest.
"""

import base64
import binascii
import fcntl
import os
import re
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.keys.private import (
    PrivateError,
    check_private_folder,
    create_private,
    read_private,
    replace_private,
    stamp,
    sync_folder,
    whole_folder,
)
from transport.errors import MalformedPacket
from transport.security.certificates import StationCertificate
from transport.security.keys import BadKey, SigningKey

_LEAST_PASSPHRASE = 10
# Nobody knows how often the key was rotated since the back-up; loudspeakers refuse an older one.
SKIPPED_GENERATIONS = 1000
_GENERATION = re.compile(rb"^Generation: ([0-9]{1,18})$", re.MULTILINE)
_PEM = b"-----BEGIN "


class KeysError(Exception):
    """Keys cannot be had or made; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class StationKeys:
    """What control speaks with."""

    key: SigningKey
    certificate: StationCertificate


class KeyFolder:
    """The folder `keys` of a station."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = path / "root.pem"
        self._station = path / "station.pem"
        # The next key, until its certificate is in its place.
        self._next = path / "station.next.pem"
        self._certificate = path / "station.cert"

    def has_root(self) -> bool:
        """Whether the root is here, or was taken away."""
        return self._root.is_file()

    def stamp(self) -> tuple[int, ...]:
        """Differs from what it was once the key was rotated; takes microseconds."""
        return stamp(self._certificate)

    def create(self) -> StationKeys:
        """A new root, and a first key that it certifies; OSError if the folder is there."""
        return self._begin(SigningKey(secrets.token_bytes(32)), 1)

    def load(self) -> StationKeys:
        """The key and its certificate; KeysError if others can read them, or they do not fit."""
        with _explaining():
            check_private_folder(self._path)
            if self.has_root():
                read_private(self._root)
            return self._load()[0]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Until the end of the block nobody changes the keys; KeysError if others see them."""
        with self._locked():
            yield

    def rotate(self, skipped: int = 0) -> StationKeys:
        """Another key, of the next generation; KeysError without the root.

        `skipped` generations are left out, which loudspeakers may have seen.
        """
        with self._locked():
            root = self._read_root()
            now, place = self._load()
            if now.certificate.root != root.public:
                raise KeysError(f"{self._root} is the root of another station: put back the right")
            if place == self._next:  # a rotation was cut off: its key must not be overwritten
                self._next.replace(self._station)
                sync_folder(self._path)
            keys = _issue(root, now.certificate.generation + 1 + skipped)
            replace_private(self._next, keys.key.to_pem())
            # From here on it holds: `load` finds the key in either place.
            replace_private(self._certificate, _text(keys.certificate))
            self._next.replace(self._station)
            sync_folder(self._path)
            return keys

    def back_up(self, file: Path, passphrase: bytes, *, take_away: bool = False) -> None:
        """Seal the root into a new file; with `take_away` it is removed here after that."""
        with self._locked():
            root = self._read_root()
            generation = self._read_certificate().generation
            head = f"The root key of a Loa station, sealed.\nGeneration: {generation}\n"
            try:
                create_private(file, head.encode() + root.to_sealed_pem(passphrase))
                again = _opened(file, passphrase)
            except FileExistsError:
                raise KeysError(f"{file} exists already: name a new file") from None
            if (again[0].public, again[1]) != (root.public, generation):
                raise KeysError(f"{file} cannot be read back: choose another disk")
            if take_away:
                self._root.unlink()
                sync_folder(self._path)

    def restore(self, file: Path, passphrase: bytes) -> StationKeys:
        """Put the root back from a back-up; where there are no keys, certify a new one.

        That one's generation is so much higher that no loudspeaker has seen a higher one.
        """
        with _explaining():
            root, generation = _opened(file, passphrase)
            if not self._path.exists():
                return self._begin(root, generation + SKIPPED_GENERATIONS)
        with self._locked():
            now = self._load()[0]
            if now.certificate.root != root.public:
                raise KeysError(
                    f"{file} is the root of another station than the keys in {self._path}: "
                    "move that folder away first"
                )
            replace_private(self._root, root.to_pem())
            return now

    def _begin(self, root: SigningKey, generation: int) -> StationKeys:
        keys = _issue(root, generation)
        with whole_folder(self._path) as made:
            create_private(made / self._root.name, root.to_pem())
            create_private(made / self._station.name, keys.key.to_pem())
            create_private(made / self._certificate.name, _text(keys.certificate))
        return keys

    def _load(self) -> tuple[StationKeys, Path]:
        """The keys, and where the private one lies."""
        certificate = self._read_certificate()
        # Twice the first: a rotation may end while this looks.
        for place in (self._station, self._next, self._station):
            if place.exists():
                key = _key(place)
                if key.public == certificate.public:
                    return StationKeys(key, certificate), place
        raise KeysError(f"{self._station} is not the key that station.cert certifies{_REMEDY}")

    def _read_certificate(self) -> StationCertificate:
        try:
            data = base64.b64decode(read_private(self._certificate).strip(), validate=True)
            return StationCertificate.parse(data)
        except (MalformedPacket, binascii.Error, ValueError):
            raise KeysError(f"{self._certificate} is damaged{_REMEDY}") from None

    def _read_root(self) -> SigningKey:
        if not self.has_root():
            raise KeysError("the root is not here: put it back with `loa keys restore FILE`")
        return _key(self._root)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other `loa keys` out, and tell what goes wrong in one line."""
        with _explaining():
            check_private_folder(self._path)
            descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)


_REMEDY = ": move the folder `keys` away and use `loa keys restore FILE` with the root's back-up"


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except PrivateError as error:
        raise KeysError(str(error)) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise KeysError(f"{where}{error.strerror}") from None


def check_passphrase(text: str) -> bytes:
    """As the seal takes it, however it was typed; KeysError if it is too short."""
    whole = unicodedata.normalize("NFC", text)
    if len(whole) < _LEAST_PASSPHRASE:
        raise KeysError(f"the passphrase must have at least {_LEAST_PASSPHRASE} characters")
    return whole.encode(errors="surrogateescape")


def _issue(root: SigningKey, generation: int) -> StationKeys:
    key = SigningKey(secrets.token_bytes(32))
    return StationKeys(key, StationCertificate.issue(root, generation, key.public))


def _text(certificate: StationCertificate) -> bytes:
    return base64.b64encode(certificate.serialise()) + b"\n"


def _key(path: Path) -> SigningKey:
    try:
        return SigningKey.from_pem(read_private(path))
    except BadKey as error:
        raise KeysError(f"{path}: {error}{_REMEDY}") from None


def _opened(file: Path, passphrase: bytes) -> tuple[SigningKey, int]:
    """The root in a back-up, and the generation it had certified then."""
    data = file.read_bytes()
    head, begin, _ = data.partition(_PEM)
    generation = _GENERATION.search(head)
    if not begin or generation is None:
        raise KeysError(f"{file} is no back-up of a root")
    try:
        root = SigningKey.from_pem(data[len(head) :], passphrase)
    except BadKey:
        raise KeysError(f"{file} does not open: is that the passphrase?") from None
    return root, int(generation[1])
