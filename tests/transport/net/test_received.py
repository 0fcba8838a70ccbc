"""Real sockets of this machine, on loopback, by recvmmsg and by recvmsg alike."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from transport.net import received
from transport.net.clocks import wall_offset_ns
from transport.net.received import ReceivedBatch
from transport.net.stamped import udp_socket


def _has_ipv6() -> bool:
    with suppress(OSError), closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture(params=["recvmmsg", "recvmsg"], autouse=True)
def call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "recvmsg":
        monkeypatch.setattr(received, "_recvmmsg", None)


@pytest.fixture
def ear() -> Iterator[socket.socket]:
    with udp_socket("0.0.0.0", 0) as opened:
        yield opened


@pytest.fixture
def mouth() -> Iterator[socket.socket]:
    with udp_socket("127.0.0.1", 0) as opened:
        yield opened


def say(mouth: socket.socket, ear: socket.socket, *words: bytes, host: str = "127.0.0.1") -> None:
    for word in words:
        mouth.sendto(word, (host, ear.getsockname()[1]))


def words(batch: ReceivedBatch) -> list[bytes]:
    pairs = zip(batch.data, batch.lengths, strict=True)
    return [row[:length].tobytes() for row, length in pairs]


def test_all_that_waits_comes_at_once_and_in_order(
    ear: socket.socket, mouth: socket.socket
) -> None:
    batch = ReceivedBatch(ear, 8, 100)
    say(mouth, ear, b"one", b"", b"three")
    assert batch.receive() == 3
    assert words(batch) == [b"one", b"", b"three"]
    assert batch.sources == [mouth.getsockname()] * 3


def test_nothing_waits(ear: socket.socket) -> None:
    batch = ReceivedBatch(ear, 8, 100)
    assert batch.receive() == 0
    assert (words(batch), batch.sources, len(batch.stamps_ns)) == ([], [], 0)


def test_what_finds_no_place_comes_next_time(ear: socket.socket, mouth: socket.socket) -> None:
    batch = ReceivedBatch(ear, 2, 100)
    say(mouth, ear, b"1", b"2", b"3")
    assert (batch.receive(), words(batch)) == (2, [b"1", b"2"])
    assert (batch.receive(), words(batch)) == (1, [b"3"])
    assert (batch.receive(), words(batch)) == (0, [])


def test_what_is_too_long_is_cut_off(ear: socket.socket, mouth: socket.socket) -> None:
    batch = ReceivedBatch(ear, 2, 4)
    say(mouth, ear, b"a long one", b"next")
    batch.receive()
    assert words(batch) == [b"a lo", b"next"]


def test_each_has_its_kernel_stamp(ear: socket.socket, mouth: socket.socket) -> None:
    batch = ReceivedBatch(ear, 8, 100, destinations=True)
    before = wall_offset_ns()  # a clock of this machine was read: not earlier than that boot
    say(mouth, ear, b"1", b"2")
    batch.receive()
    first, second = (int(stamp) for stamp in batch.stamps_ns)
    assert before < first <= second


def test_without_stamps_there_are_none(ear: socket.socket, mouth: socket.socket) -> None:
    batch = ReceivedBatch(ear, 8, 100, stamps=False)
    say(mouth, ear, b"1", b"2")
    batch.receive()
    assert batch.stamps_ns.tolist() == [0, 0]
    assert batch.destinations.tolist() == [[0] * 4] * 2


@pytest.mark.parametrize("stamps", [True, False])
def test_each_has_the_address_it_was_sent_to(
    ear: socket.socket, mouth: socket.socket, stamps: bool
) -> None:
    batch = ReceivedBatch(ear, 8, 100, stamps=stamps, destinations=True, overflow=True)
    for last in (1, 7, 9):
        say(mouth, ear, b"x", host=f"127.3.2.{last}")
    batch.receive()
    assert batch.destinations.tolist() == [[127, 3, 2, last] for last in (1, 7, 9)]


def test_a_batch_forgets_the_one_before(ear: socket.socket, mouth: socket.socket) -> None:
    """A stamp that the kernel does not give is 0, not that of an earlier datagram."""
    batch = ReceivedBatch(ear, 8, 100, destinations=True)
    say(mouth, ear, b"1")
    batch.receive()
    for level, option in ((socket.SOL_SOCKET, 35), (socket.IPPROTO_IP, 8)):
        ear.setsockopt(level, option, 0)
    say(mouth, ear, b"2")
    assert batch.receive() == 1
    assert (batch.stamps_ns.tolist(), batch.destinations.tolist()) == ([0], [[0] * 4])


def test_what_the_kernel_dropped_is_counted(mouth: socket.socket) -> None:
    """The count comes with the first datagram that was queued after a loss: layouts are mixed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        ear.bind(("127.0.0.1", 0))
        batch = ReceivedBatch(ear, 64, 1000, destinations=True, overflow=True)
        say(mouth, ear, *[bytes(700)] * 50)
        assert 0 < (kept := batch.receive()) < 50
        assert batch.dropped == 0  # these came before
        say(mouth, ear, b"after")
        batch.receive()
        assert batch.dropped == 50 - kept
        assert batch.destinations.tolist() == [[127, 0, 0, 1]]


def test_messages_that_are_laid_out_otherwise_are_read_one_by_one(
    ear: socket.socket, mouth: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ReceivedBatch(ear, 8, 100, destinations=True)
    monkeypatch.setattr(batch, "_are_alike", lambda _layout: False)
    for last in (1, 7):
        say(mouth, ear, b"x", host=f"127.3.2.{last}")
    batch.receive()
    assert batch.destinations.tolist() == [[127, 3, 2, 1], [127, 3, 2, 7]]
    assert all(batch.stamps_ns > 0)


def test_mixed_layouts_within_one_batch(mouth: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        ear.bind(("127.0.0.1", 0))
        few = ReceivedBatch(ear, 8, 1000, destinations=True, overflow=True)
        batch = ReceivedBatch(ear, 64, 1000, destinations=True, overflow=True)
        say(mouth, ear, *[bytes(500)] * 50)
        read = few.receive()  # makes room beside those that came before the loss
        say(mouth, ear, b"after")
        count = batch.receive()
        assert count > 1
        assert words(batch)[-1] == b"after"
        assert batch.dropped == 50 - read - (count - 1)
        assert all(batch.stamps_ns > 0)
        assert batch.destinations.tolist() == [[127, 0, 0, 1]] * count


@needs_ipv6
def test_sources_of_ipv6_and_of_ipv4_at_a_socket_of_both(mouth: socket.socket) -> None:
    with udp_socket("::", 0) as ear, udp_socket("::1", 0) as six:
        batch = ReceivedBatch(ear, 8, 100)
        say(mouth, ear, b"four")
        say(six, ear, b"six", host="::1")
        batch.receive()
        assert batch.sources == [
            ("::ffff:127.0.0.1", mouth.getsockname()[1]),
            ("::1", six.getsockname()[1]),
        ]
        assert words(batch) == [b"four", b"six"]
        with pytest.raises(ValueError, match="IPv4"):
            ReceivedBatch(ear, 8, 100, destinations=True)


def test_what_is_wrong_with_the_socket_raises() -> None:
    ear = udp_socket("127.0.0.1", 0)
    batch = ReceivedBatch(ear, 8, 100)
    ear.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        batch.receive()
