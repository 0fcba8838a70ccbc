"""The audit log of a running station: begun, written, signed and anchored."""

import logging
import os
import secrets
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from server.audit.anchors import Anchor, anchors_of
from server.audit.caller import STATION
from server.audit.head import HeadSigner
from server.audit.places import AnchorError
from server.audit.row import Entry
from server.configuration import configure
from server.keeper import Keeper
from server.keys.folder import StationKeys
from server.recording import Recorder
from server.settings import SettingsError
from server.store.store import Store
from server.vouching import Vouching

_log = logging.getLogger(__name__)


class AuditLog:
    """What control has of the log: `recorder` writes rows, `vouching` signs and exports them."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        now_ns: Callable[[], int],
        keys: StationKeys,
        boot: int,
        anchors: tuple[Anchor, ...] = (),
    ) -> None:
        """Go on with the log in the store, or begin it; StoreError if it cannot be written.

        `boot` says which of the station's lives this is.
        """
        self._boot = boot
        self.recorder = Recorder(store, keeper, now_ns)
        self.vouching = Vouching(store, keeper, now_ns, self._signer(keys), anchors)
        certificate = keys.certificate
        store.begin_audit(certificate.root, now_ns())
        told = {"boot": boot, "generation": certificate.generation, "loa": version("loa")}
        self.recorder.note_now(self._entry("station.begin", told))

    def _signer(self, keys: StationKeys) -> HeadSigner:
        return HeadSigner(keys.key, keys.certificate, self._boot, secrets.token_bytes(32))

    def _entry(self, what: str, told: dict[str, object]) -> Entry:
        return self.recorder.entry(what, told, by=STATION)

    def tick(self) -> None:
        """To be called every second or so."""
        self.recorder.tick()
        self.vouching.tick(self.recorder.written)

    def key_rotated(self, keys: StationKeys) -> None:
        """The station has another key, which certifies who signs the log from now on."""
        self.vouching.signer = self._signer(keys)
        generation = keys.certificate.generation
        self.recorder.note_later(self._entry("key.rotate", {"generation": generation}))

    def token_renewed(self) -> None:
        """There is another operator's token."""
        self.recorder.note_later(self._entry("token.renew", {}))


def anchors_set(data: str) -> tuple[Anchor, ...]:
    """The anchors that the settings of the station in this folder ask for.

    They are not handed down by the supervisor, for a web hook's URL may be a secret, and anybody on
    this machine can read a command line. What is wrong with them by now stops nothing.
    """
    try:
        settings = configure({"data": str(Path(data))}, os.environ)
        return anchors_of(settings.audit_file, settings.audit_syslog, settings.audit_webhook)
    except (SettingsError, AnchorError) as error:
        _log.error("loa: the audit log is anchored nowhere: %s", error)
        return ()
