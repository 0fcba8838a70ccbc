"""Who is sent what, in memory: whole or not at all, and there for whoever is born later."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.processes import routing
from server.processes.notebook import Notebook, create_notebook
from server.processes.routing import (
    DESTINATION,
    Route,
    RouteBook,
    Routes,
    pack_destination,
    unpack_destinations,
)

HOME = pack_destination("192.0.2.1", 5004, 5005)
AWAY = pack_destination("2001:db8::1", 40_000, 40_000)
ROUTE = Route(8, 20.0, HOME + AWAY, bytes(8), "v=0\r\n", "239.192.76.1")


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_notebook()
    yield descriptor
    os.close(descriptor)


@given(st.ip_addresses(), st.integers(0, 65_535), st.integers(0, 65_535))
def test_a_destination_is_packed_and_unpacked(address: object, port: int, rtcp_port: int) -> None:
    packed = pack_destination(str(address), port, rtcp_port)
    ((text, *ports),) = unpack_destinations(packed)
    assert len(packed) == DESTINATION.itemsize
    assert ports == [port, rtcp_port]
    mapped = getattr(address, "ipv4_mapped", None)
    assert text == str(mapped or address)


def test_ipv4_within_ipv6_is_the_same_destination() -> None:
    assert pack_destination("::ffff:192.0.2.1", 5004, 5005) == HOME


def test_what_is_no_address_is_no_destination() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        pack_destination("nowhere", 1, 1)


def test_rows_are_as_they_were_packed() -> None:
    rows = ROUTE.rows
    assert rows["port"].tolist() == [5004, 40_000]
    assert rows["rtcp_port"].tolist() == [5005, 40_000]
    assert bytes(rows["address"][0]) == bytes(10) + b"\xff\xff\xc0\x00\x02\x01"
    assert ROUTE.split() == [HOME, AWAY]
    assert not rows.flags.writeable


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"destinations": HOME[:-1]}, "cut off"), ({"frame_ms": 0.0}, "longer than nothing")],
)
def test_a_route_that_makes_no_sense_cannot_be(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Route(**({"stream": 8, "frame_ms": 20.0} | wrong))  # type: ignore[arg-type]


def test_whoever_is_born_later_reads_what_is_declared(memory: int) -> None:
    reader = RouteBook(memory)
    assert reader.news() is None
    RouteBook(memory).write([ROUTE])
    assert reader.news() == Routes((ROUTE,))
    assert reader.news() is None
    assert RouteBook(memory).news() == Routes((ROUTE,))


def test_only_the_newest_declaration_counts(memory: int) -> None:
    reader, writer = RouteBook(memory), RouteBook(memory)
    writer.write([ROUTE])
    writer.write([])
    assert reader.news() == Routes(())


def test_too_much_is_refused_and_what_was_before_holds(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "MAX_ROUTES_BYTES", 200)
    book = RouteBook(memory)
    book.write([ROUTE])
    with pytest.raises(ValueError, match="do not fit 200"):
        book.write([ROUTE, ROUTE])
    assert RouteBook(memory).news() == Routes((ROUTE,))


def test_routes_of_another_version_of_ours_change_nothing(memory: int) -> None:
    book = RouteBook(memory)
    Notebook(memory).write(b"of another version")
    assert book.news() is None


def test_a_province_fits(memory: int) -> None:
    """Every loudspeaker there can be, in as many programmes as there can be."""
    routes = [Route(8 * n, 20.0, HOME * 20_000) for n in range(50)]
    RouteBook(memory).write(routes)
    news = RouteBook(memory).news()
    assert news is not None
    assert sum(len(route.rows) for route in news.routes) == 1_000_000
