"""How long a call waits for another that keeps the database: seconds, not hours."""

import threading

import pytest

from server.store import Store, StoreError, postgresql, sqlite
from server.store.engine import Place


def test_a_call_waits_for_another_for_a_bounded_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_MS", 200)
    monkeypatch.setattr(postgresql, "_WAIT_MS", 200)
    store = Store.create(place, "Station")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store._transaction():
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(5)
    try:
        with pytest.raises(StoreError, match="another call keeps it") as caught:
            store.load()
        assert len(str(caught.value).splitlines()) == 1
    finally:
        done.set()
        holder.join()
    assert store.load().station_name == "Station"
    store.close()
