"""What the station must still know after a power cut."""

from server.store.engine import StoreError
from server.store.records import Contents, ProgrammeRecord
from server.store.store import Store

__all__ = ["Contents", "ProgrammeRecord", "Store", "StoreError"]
