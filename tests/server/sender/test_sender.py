"""The sender's whole loop, on the sockets and memory it is born with; in a thread."""

import itertools
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from server.processes.bus import (
    FROM_SENDER,
    TO_SENDER,
    Bus,
    DeclarePaths,
    DeclareRoutes,
    Destination,
    PathReport,
    Route,
    SenderReport,
    WhoIsThere,
    pack_destinations,
)
from server.processes.child import Birth, adopt, read_secret
from server.processes.ring import RTP, Entry, RingWriter
from server.sender import __main__ as module
from transport.clock.exchange import ExchangeClient
from transport.net.stamped import udp_socket
from transport.rtp.rtcp import ReceiverReport, SourceDescription, serialise_compound
from transport.security import stun
from transport.security.session_keys import open_time, seal_time, session_key

# Never waited for unless something is broken.
PATIENCE_S = 5.0


class Running:
    """A sender at work, its control, its producer, and a loudspeaker's socket."""

    def __init__(self, births: dict[str, Birth], lifeline: int, held: ExitStack) -> None:
        self._own = replace(births["server.sender"], lifeline=lifeline, announce=False)
        self.bus: Bus[DeclareRoutes | WhoIsThere, SenderReport | DeclarePaths] = Bus(
            held.enter_context(adopt(births["server"].sender_bus)), TO_SENDER, FROM_SENDER
        )
        self.ring = RingWriter(self._own.ring, self._own.wake)
        self.ear = held.enter_context(udp_socket("127.0.0.1", 0))
        self.ear.setblocking(True)
        self.ear.settimeout(PATIENCE_S)
        self._secret = read_secret(self._own.secret)
        self._transactions = itertools.count()
        self.thread = threading.Thread(target=module.Sender(self._own).run)
        self.thread.start()

    def address(self, name: str) -> tuple[str, int]:
        with adopt(getattr(self._own, name)) as end:
            host, port = end.getsockname()
            return str(host), int(port)

    def key(self, session: int) -> bytes:
        return session_key(self._secret, session)

    def report(self) -> SenderReport:
        """The newest of those that wait, or the next."""
        found = [message for message in self._receive() if isinstance(message, SenderReport)]
        return found[-1] if found else self.report()

    def paths(self) -> DeclarePaths:
        """The next that the sender declares."""
        found = [message for message in self._receive() if isinstance(message, DeclarePaths)]
        return found[-1] if found else self.paths()

    def _receive(self) -> list[SenderReport | DeclarePaths]:
        assert select.select([self.bus], [], [], PATIENCE_S)[0]
        return list(self.bus.receive())

    def ask_for_a_path(self, session: int, nonce: bytes | None) -> stun.Mapped | stun.Challenge:
        """Of the ear's socket, as a loudspeaker would."""
        transaction = next(self._transactions).to_bytes(12)
        self.ear.sendto(
            stun.request(transaction, session, self.key(session), nonce), self.address("rtp")
        )
        return stun.parse_response(self.ear.recv(200), transaction, self.key(session))

    def declare(self) -> None:
        """Stream 1 goes to the ear; returns when the sender has taken that in."""
        host, port = self.ear.getsockname()
        packed = pack_destinations([Destination(host, port, port)])
        self.report()  # so that the next one is the answer
        self.bus.send(DeclareRoutes((Route(1, packed),)))
        self.bus.send(WhoIsThere())
        self.report()


@pytest.fixture
def running(births: dict[str, Birth], monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    lifeline, end = os.pipe()
    with ExitStack() as held:
        held.callback(os.close, lifeline)
        # A process keeps what it has adopted until its end; a test must not.
        monkeypatch.setattr(module, "adopt", lambda fd: held.enter_context(adopt(fd)))
        running = Running(births, lifeline, held)
        try:
            yield running
        finally:
            os.close(end)
            running.thread.join(PATIENCE_S)
            assert not running.thread.is_alive(), "the cut lifeline did not end it"


def test_what_the_producer_writes_goes_where_control_declared(running: Running) -> None:
    running.declare()
    for number in range(100):
        running.ring.write(Entry(1, RTP, b"%d" % number))
    assert [running.ear.recv(100) for _ in range(100)] == [b"%d" % n for n in range(100)]


def test_what_control_did_not_declare_goes_nowhere(running: Running) -> None:
    running.declare()
    running.ring.write(Entry(2, RTP, b"stray"))
    running.ring.write(Entry(1, RTP, b"declared"))
    assert running.ear.recv(100) == b"declared"


def test_it_says_who_it_is_and_again_when_asked(running: Running) -> None:
    first = running.report()
    running.bus.send(WhoIsThere())
    assert running.report().instance == first.instance


def test_it_counts_what_it_sent(running: Running) -> None:
    running.declare()
    running.ring.write(Entry(1, RTP, b"sound"))
    running.ear.recv(100)
    running.bus.send(WhoIsThere())
    assert running.report().datagrams == 1


def test_whoever_asks_is_told_the_time(running: Running) -> None:
    client = ExchangeClient(lambda: 1)
    nonce, packet = client.request()
    client.sent(nonce, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE_S)
        asker.sendto(packet, running.address("time"))
        exchange = client.receive(asker.recv(100), 10**9)
    assert exchange.t3_ns >= exchange.t2_ns


def test_receivers_reports_and_rubbish_are_counted(running: Running) -> None:
    running.report()
    good = serialise_compound((ReceiverReport(5, ()), SourceDescription(5, "x")))
    running.ear.sendto(b"rubbish", running.address("rtcp"))
    running.ear.sendto(good, running.address("rtcp"))
    running.ear.sendto(b"rubbish", running.address("time"))
    running.bus.send(WhoIsThere())
    report = running.report()
    assert (report.receivers, report.malformed) == (1, 2)


def test_a_loudspeaker_that_answers_the_challenge_has_a_path(running: Running) -> None:
    challenge = running.ask_for_a_path(7, None)
    assert isinstance(challenge, stun.Challenge)
    host, port = running.ear.getsockname()
    assert running.ask_for_a_path(7, challenge.nonce) == stun.Mapped(host, port)
    declared = DeclarePaths((PathReport(7, host, port),), ())
    assert running.paths() == declared
    running.bus.send(WhoIsThere())
    assert running.paths() == declared


def test_it_counts_open_paths_and_what_it_refused(running: Running) -> None:
    challenge = running.ask_for_a_path(7, None)
    assert isinstance(challenge, stun.Challenge)
    running.ask_for_a_path(7, challenge.nonce)
    running.paths()
    running.ear.sendto(stun.request(bytes(12), 8, bytes(32), None), running.address("rtp"))
    running.ear.sendto(seal_time(bytes([0x23] + [0] * 47), 8, bytes(32)), running.address("time"))
    running.ear.sendto(b"rubbish", running.address("rtp"))
    running.ask_for_a_path(7, None)  # so that what came before has been read
    running.bus.send(WhoIsThere())
    report = running.report()
    assert (report.paths, report.refused, report.malformed) == (1, 2, 1)


def test_a_loudspeaker_is_told_the_time_under_its_key(running: Running) -> None:
    client = ExchangeClient(lambda: 1)
    nonce, packet = client.request()
    client.sent(nonce, 0)
    running.ear.sendto(seal_time(packet, 7, running.key(7)), running.address("time"))
    reply = open_time(running.ear.recv(100), 7, running.key(7))
    exchange = client.receive(reply, 10**9)
    assert exchange.t3_ns >= exchange.t2_ns


def test_sound_goes_out_in_the_midst_of_a_flood(running: Running) -> None:
    running.declare()
    for port in ("rtp", "time", "rtcp"):
        for _ in range(300):
            running.ear.sendto(b"rubbish", running.address(port))
    running.ring.write(Entry(1, RTP, b"sound"))
    assert running.ear.recv(100) == b"sound"


def test_a_loudspeaker_that_wanders_between_two_ports_is_declared_where_it_was_last(
    running: Running,
) -> None:
    with udp_socket("127.0.0.1", 0) as other:
        other.setblocking(True)
        other.settimeout(PATIENCE_S)
        ears = (running.ear, other)
        nonces = []
        for ear in ears:
            running.ear = ear
            challenge = running.ask_for_a_path(7, None)
            assert isinstance(challenge, stun.Challenge)
            nonces.append(challenge.nonce)
        for _ in range(50):
            for ear, nonce in zip(ears, nonces, strict=True):
                running.ear = ear
                running.ask_for_a_path(7, nonce)
        host, port = other.getsockname()
        while running.paths().opened != (PathReport(7, host, port),):
            pass
