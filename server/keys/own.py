"""What only this station has: its key, its TLS certificate, its token; and whether they are new."""

import logging
from pathlib import Path

from server.keys.certifier import Certifier
from server.keys.credentials import Credentials
from server.keys.folder import KeyFolder, KeysError
from server.keys.tls import certificate_hash
from server.keys.token import AccessError, TokenFile

_log = logging.getLogger(__name__)


class OwnSecrets:
    """Read at the beginning, and again when `loa keys` has made one anew."""

    def __init__(self, keys: Path, token: Path, tls_certificate: Path) -> None:
        """Where they are; KeysError, AccessError or TlsError if one of them cannot be used."""
        self._key_folder = KeyFolder(keys)
        self._token_file = TokenFile(token)
        self._tls_hash = certificate_hash(tls_certificate)
        # Before they are read: what is made anew meanwhile is read again.
        self._key_stamp = self._key_folder.stamp()
        self._token_stamp = self._token_file.stamp()
        self._complained: dict[type[Exception], str] = {}
        self.keys = self._key_folder.load()
        self.token = self._token_file.load()
        self.certifier = self._certifier()

    def _certifier(self) -> Certifier:
        return Certifier(self.keys.key, self.generation)

    @property
    def generation(self) -> int:
        """Of the station's key."""
        return self.keys.certificate.generation

    def credentials(self) -> Credentials:
        """What the station shows itself with."""
        return Credentials(self.keys.key, self.keys.certificate.serialise(), self._tls_hash)

    def keys_changed(self) -> bool:
        """Whether there is another key than was known; it is taken up then.

        One that cannot be read yet is looked at again.
        """
        stamp = self._key_folder.stamp()
        if stamp == self._key_stamp:
            return False
        try:
            self.keys = self._key_folder.load()
        except KeysError as error:
            self._complain(error)
            return False
        self._key_stamp = stamp
        self._complained.pop(KeysError, None)
        self.certifier = self._certifier()
        return True

    def token_changed(self) -> bool:
        """Whether there is another token than was known; likewise."""
        stamp = self._token_file.stamp()
        if stamp == self._token_stamp:
            return False
        try:
            self.token = self._token_file.load()
        except AccessError as error:
            self._complain(error)
            return False
        self._token_stamp = stamp
        self._complained.pop(AccessError, None)
        return True

    def _complain(self, error: Exception) -> None:
        """Once for each thing that is wrong, for this is looked at every second."""
        if str(error) != self._complained.get(type(error)):
            self._complained[type(error)] = str(error)
            _log.error("loa: the station goes on as before: %s", error)
