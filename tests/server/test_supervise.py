"""The supervisor's parts: what it binds, what it hands down, and when it starts again what dies."""

import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from server import ports, supervise
from server.data import DataFolder
from server.processes.child import DESCRIPTORS, Birth, adopt, read_database, read_secret
from server.settings import Settings, SettingsError
from server.supervise import Child
from tests.support.tls import station_tls
from transport.net.mdns import Interface


def free_ports(count: int) -> int:
    """The first of so many ports next to each other that nobody uses just now."""
    # Tests may run in several processes at once.
    begin = 20_000 + os.getpid() * 40 % 10_000
    for first in range(begin, begin + 2000, count):
        try:
            with ExitStack() as held:
                for step in range(count):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        end = held.enter_context(socket.socket(socket.AF_INET, kind))
                        end.bind(("127.0.0.1", first + step))
        except OSError:
            continue
        return first
    pytest.fail("no ports are free")


def port_of(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as end:
        return int(end.getsockname()[1])


# ------------------------------------------------------------------ what is bound
def test_the_ports_are_next_to_each_other_in_the_promised_order() -> None:
    port = free_ports(5)
    with supervise._resources(Settings(port=port)) as (births, _, http):
        birth = births["server"]
        descriptors = (birth.http, birth.time, birth.ingest, birth.rtp, birth.rtcp, birth.gateway)
        ports = [port_of(descriptor) for descriptor in descriptors]
    assert http == port
    assert ports == [port, port, port + 1, port + 2, port + 3, port + 4]


def test_port_zero_means_any() -> None:
    with supervise._resources(Settings(port=0)) as (births, _, http):
        birth = births["server"]
        ports = [port_of(d) for d in (birth.http, birth.ingest)]
        assert http == ports[0]
    assert 0 not in ports
    assert len(set(ports)) == 2


@pytest.mark.parametrize(
    ("step", "kind", "name"),
    [
        (0, socket.SOCK_STREAM, "TCP"),
        (0, socket.SOCK_DGRAM, "UDP"),
        (1, socket.SOCK_STREAM, "TCP"),
        (2, socket.SOCK_DGRAM, "UDP"),
        (3, socket.SOCK_DGRAM, "UDP"),
        (4, socket.SOCK_STREAM, "TCP"),
    ],
)
def test_a_port_in_use_is_named_with_what_to_do(
    step: int, kind: socket.SocketKind, name: str
) -> None:
    port = free_ports(5)
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", port + step))
        if kind == socket.SOCK_STREAM:
            other.listen()
        with (
            pytest.raises(SettingsError) as refused,
            supervise._resources(Settings(port=port)),
        ):
            pass
    assert str(refused.value) == (
        f"cannot use {name} port {port + step} on 127.0.0.1: Address already in use "
        "(is another station running? choose another --port)"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_bound_to_everything_it_takes_both_families(host: str) -> None:
    with supervise._resources(Settings(bind="::", port=0)) as (births, _, _):
        for descriptor in (births["server"].http, births["server"].gateway):
            with socket.create_connection((host, port_of(descriptor)), 5):
                pass
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for descriptor in (births["server"].time, births["server"].rtp):
            with socket.socket(family, socket.SOCK_DGRAM) as caller, adopt(descriptor) as station:
                caller.sendto(b"question", (host, port_of(descriptor)))
                assert station.recv(100) == b"question"


def test_bound_to_this_machine_alone_by_ipv6_multicast_stays_here() -> None:
    with supervise._resources(Settings(bind="::1", port=0)) as (births, _, _):
        assert births["server"].interface == "127.0.0.1"


def test_an_address_of_another_machine_is_named_with_what_to_do() -> None:
    settings = Settings(bind="192.0.2.1", interface="127.0.0.1", port=0)
    with pytest.raises(SettingsError) as refused, supervise._resources(settings):
        pass
    assert "on 192.0.2.1: Cannot assign requested address" in str(refused.value)
    assert "an IP address of this machine with --bind" in str(refused.value)


def test_an_interface_of_another_machine_is_named_with_what_to_do() -> None:
    settings = Settings(interface="192.0.2.1", port=0)
    with pytest.raises(SettingsError) as refused, supervise._resources(settings):
        pass
    assert "multicast cannot leave by 192.0.2.1" in str(refused.value)
    assert "--interface" in str(refused.value)


def test_when_binding_fails_nothing_stays_bound() -> None:
    port = free_ports(5)
    with socket.create_server(("127.0.0.1", port + 1)):
        with pytest.raises(SettingsError), supervise._resources(Settings(port=port)):
            pass
        socket.create_server(("127.0.0.1", port)).close()


def test_multicast_leaves_by_the_address_that_is_bound() -> None:
    with supervise._resources(Settings(bind="127.0.0.1", port=0)) as (births, _, _):
        assert {birth.interface for birth in births.values()} == {"127.0.0.1"}


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_bound_to_every_address_multicast_leaves_by_one(
    monkeypatch: pytest.MonkeyPatch, everywhere: str
) -> None:
    monkeypatch.setattr(ports, "route_interface", lambda _: "127.0.0.1")
    settings = Settings(bind=everywhere, port=0)
    with supervise._resources(settings) as (births, _, _):
        assert births["server"].interface == "127.0.0.1"


EVERYWHERE = Settings(bind="0.0.0.0", port=0)


def no_route_but(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """A machine that has these addresses, and no default route."""

    def nowhere(_: str) -> str:
        raise OSError("Network is unreachable")

    found = tuple(Interface(IPv4Interface(f"{address}/24")) for address in addresses)
    monkeypatch.setattr(ports, "route_interface", nowhere)
    monkeypatch.setattr(ports, "mdns_interfaces", lambda: found)


@pytest.mark.parametrize("addresses", [(), ("127.0.0.1",)])
def test_a_machine_without_a_network_still_serves_itself(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    no_route_but(monkeypatch, *addresses)
    with supervise._resources(EVERYWHERE) as (births, _, _):
        assert births["server"].interface == "127.0.0.1"


def test_on_a_network_without_a_gateway_multicast_leaves_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_route_but(monkeypatch, "127.0.0.2")
    with supervise._resources(EVERYWHERE) as (births, _, _):
        assert births["server"].interface == "127.0.0.2"


def test_of_two_networks_without_a_gateway_none_is_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_route_but(monkeypatch, "10.0.0.1", "10.1.0.1")
    with (
        pytest.raises(
            SettingsError, match=r"10\.0\.0\.1, 10\.1\.0\.1: choose one with --interface"
        ),
        supervise._resources(EVERYWHERE),
    ):
        pass


# ------------------------------------------------------------------ what is handed down
def test_every_descriptor_of_a_birth_is_handed_down() -> None:
    settings = Settings(port=0, senders=2, halls=2)
    with supervise._resources(settings) as (births, _, _):
        for birth in births.values():
            for descriptor in birth.descriptors:
                os.fstat(descriptor)
        control = births["server"]
        assert {*control.wakes, *control.halls, control.turns} < set(control.descriptors)
        fields = asdict(control)
    # Whatever else is a number is none.
    assert set(fields) - set(DESCRIPTORS) == {
        "audit_days",
        "programmes_days",
        "media_epoch_ns",
        "interface",
        "groups",
        "group_port",
        "ttl",
        "announce",
        "shard",
        "data",
        "tls_certificate",
        "tls_key",
    }


def test_buses_and_notebook_belong_to_those_alone_whom_they_concern() -> None:
    concerned = {
        "server.sender": {"senders_bus"},
        "server.usher": {"usher_bus", "secret"},
        "server.producer": {"producer_bus"},
        "server.gateway": {"gateway_bus", "secret"},
        "server.hall": set(),
        "server": {
            *("producer_bus", "senders_bus", "usher_bus", "gateway_bus", "notebook", "secret"),
            "database",
        },
    }
    with supervise._resources(Settings(port=0, halls=1)) as (births, _, _):
        given = {
            name: {own for own in concerned["server"] if getattr(birth, own) >= 0}
            for name, birth in births.items()
        }
        assert given == concerned
        assert stat.S_ISREG(os.fstat(births["server"].notebook).st_mode)


def test_each_reader_has_a_wake_up_of_its_own() -> None:
    with supervise._resources(Settings(port=0, senders=3)) as (births, _, _):
        control = births["server"]
        assert len({*control.wakes}) == 5
        assert control.shards == 3
        assert (control.usher_wake, control.gateway_wake) == control.wakes[3:]
        shards = [births[f"server.sender{n}"].shard for n in ("", " 1", " 2")]
        assert shards == [0, 1, 2]


def test_each_sender_has_a_spare_and_nobody_else() -> None:
    with supervise._resources(Settings(port=0, senders=2, halls=2)) as (births, _, _):
        children = supervise._children(births)
    started = [(child.module, child.birth.shard) for child in children]
    assert sorted(started) == [
        ("server", 0),
        ("server.gateway", 0),
        *[("server.hall", 0)] * 2,
        ("server.producer", 0),
        *[("server.sender", 0)] * 2,
        *[("server.sender", 1)] * 2,
        ("server.usher", 0),
    ]


def test_a_hall_is_joined_to_control_and_messages_between_them_keep_their_bounds() -> None:
    with supervise._resources(Settings(port=0, halls=2)) as (births, _, _):
        for name, of_control in zip(
            ("server.hall", "server.hall 1"), births["server"].halls, strict=True
        ):
            (of_hall,) = births[name].halls
            with adopt(of_control) as control, adopt(of_hall) as hall:
                control.send(b"one")
                control.send(b"two")
                assert [hall.recv(100), hall.recv(100)] == [b"one", b"two"]


def test_all_that_have_the_secret_have_one_that_nobody_can_change() -> None:
    with supervise._resources(Settings(port=0)) as (births, _, _):
        secrets = {read_secret(birth.secret) for birth in births.values() if birth.secret >= 0}
        (secret,) = secrets
        assert len(secret) == 32
        for change in (
            lambda fd: os.pwrite(fd, b"x", 0),
            lambda fd: os.pwrite(fd, b"x", 32),
            lambda fd: os.ftruncate(fd, 0),
        ):
            with pytest.raises(PermissionError):
                change(births["server"].secret)
    with supervise._resources(Settings(port=0)) as (births, _, _):
        assert read_secret(births["server"].secret) != secret


def test_no_secret_is_on_a_command_line() -> None:
    with supervise._resources(Settings(port=0)) as (births, _, _):
        secret = read_secret(births["server"].secret)
        assert len(births) == 5
        for birth in births.values():
            assert secret.hex() not in birth.to_argument()


def test_who_has_said_nothing_waits_in_the_kernel() -> None:
    with supervise._resources(Settings(port=0)) as (births, _, _):
        birth = births["server"]
        for descriptor in (birth.http, birth.ingest, birth.gateway):
            with (
                adopt(descriptor) as listening,
                socket.create_connection(listening.getsockname(), 5) as caller,
            ):
                listening.setblocking(False)
                with pytest.raises(BlockingIOError):
                    listening.accept()
                caller.sendall(b"x")
                assert select.select([listening], [], [], 5)[0]
                listening.accept()[0].close()


def test_all_have_one_media_clock() -> None:
    with supervise._resources(Settings(port=0)) as (births, _, _):
        assert len({birth.media_epoch_ns for birth in births.values()}) == 1


def opened() -> set[str]:
    """Every socket and pipe of this process, by the kernel's number of it."""
    links = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, by another test's thread
            links.add(str(link.readlink()))
    return {link for link in links if link.startswith(("socket:", "pipe:"))}


def test_nothing_stays_open() -> None:
    before = opened()
    with supervise._resources(Settings(port=0)):
        during = opened() - before
        assert len(during) == 6 + 2 + 8  # ports, pipes, ends of buses
    assert not during & opened()


def test_the_lifeline_is_whole_as_long_as_the_supervisor_lives() -> None:
    with supervise._resources(Settings(port=0)) as (births, _, _):
        lifeline = os.dup(births["server"].lifeline)
        try:
            assert select.select([lifeline], [], [], 0)[0] == []
        except BaseException:
            os.close(lifeline)
            raise
    try:
        assert select.select([lifeline], [], [], 0)[0] == [lifeline]
        assert os.read(lifeline, 1) == b""
    finally:
        os.close(lifeline)


def test_a_birth_survives_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with supervise._resources(Settings(port=0, groups="239.192.76.0/25", ttl=7)) as (births, _, _):
        for birth in births.values():
            monkeypatch.setattr("sys.argv", ["a module", birth.to_argument()])
            assert Birth.from_arguments() == birth


# ------------------------------------------------------------------ the station's folder
def test_the_stations_folder_is_handed_down_whole_wherever_a_child_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DataFolder(tmp_path / "station").create("Station")
    monkeypatch.chdir(tmp_path)
    with supervise._resources(Settings(port=0, data=Path("station"))) as (births, _, _):
        assert births["server"].data == str(tmp_path / "station")


def test_all_show_the_certificate_that_the_folder_holds(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "station")
    folder.create("Station")
    with supervise._resources(Settings(port=0, data=folder.path)) as (births, _, _):
        for birth in births.values():
            assert birth.tls_certificate == str(folder.tls_certificate)
            assert birth.tls_key == str(folder.tls_key)


def test_a_certificate_of_the_operators_goes_before_that(tmp_path: Path) -> None:
    folder, tls = DataFolder(tmp_path / "station"), station_tls()
    folder.create("Station")
    settings = Settings(
        port=0, data=folder.path, tls_certificate=str(tls.certificate), tls_key=str(tls.key)
    )
    with supervise._resources(settings) as (births, _, _):
        assert births["server"].tls_certificate == str(tls.certificate)
        assert births["server"].tls_key == str(tls.key)


def test_a_key_of_another_certificate_is_told_before_anything_is_bound(tmp_path: Path) -> None:
    folder, tls = DataFolder(tmp_path / "station"), station_tls()
    folder.create("Station")
    before = opened()
    settings = Settings(
        port=0, data=folder.path, tls_certificate=str(tls.certificate), tls_key=str(folder.tls_key)
    )
    with (
        pytest.raises(SettingsError, match=r"key\.pem is not the key of .*certificate\.pem$"),
        supervise._resources(settings),
    ):
        pass
    assert not opened() - before


def test_a_folder_without_keys_is_told_before_anything_is_bound(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "station")
    folder.create("Station")
    shutil.rmtree(folder.keys)
    before = opened()
    with (
        pytest.raises(SettingsError, match="holds no keys: put the root back with") as refused,
        supervise._resources(Settings(port=0, data=folder.path)),
    ):
        pass
    assert len(str(refused.value).splitlines()) == 1
    assert not opened() - before


def test_two_stations_do_not_share_a_folder(tmp_path: Path) -> None:
    DataFolder(tmp_path / "station").create("Station")
    settings = Settings(port=0, data=tmp_path / "station")
    with (
        supervise._resources(settings),
        pytest.raises(SettingsError, match="in use by another"),
        supervise._resources(settings),
    ):
        pass
    with supervise._resources(settings):
        pass  # the lock went with the first


def test_without_a_station_in_the_folder_nothing_is_bound(tmp_path: Path) -> None:
    before = opened()
    with (
        pytest.raises(SettingsError, match="loa init") as refused,
        supervise._resources(Settings(port=0, data=tmp_path)),
    ):
        pass
    assert len(str(refused.value).splitlines()) == 1
    assert not opened() - before
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ what dies
class Process:
    """A process that ends when told to."""

    def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
        self.command = command
        self.environment = env
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """Every process that was started, newest last."""
    started: list[Process] = []

    def popen(command: list[str], **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    monkeypatch.setattr("subprocess.Popen", popen)
    return started


NONE: dict[str, Any] = dict.fromkeys(DESCRIPTORS, -1) | {"wakes": (-1,) * 3, "halls": ()}
BIRTH = Birth(
    **NONE,
    media_epoch_ns=0,
    interface="127.0.0.1",
    groups="239.192.76.0/24",
    group_port=5004,
    ttl=1,
    announce=False,
)


@pytest.fixture
def child(started: list[Process]) -> Child:
    child = Child("server.sender", BIRTH)
    child.start(0.0)
    assert len(started) == 1
    return child


def test_a_child_is_given_its_module_and_its_birth(child: Child, started: list[Process]) -> None:
    assert started[0].command[-3:] == ["-m", "server.sender", child.birth.to_argument()]


def test_what_lives_is_left_alone(child: Child, started: list[Process]) -> None:
    child.revive(100.0)
    assert len(started) == 1


@pytest.mark.parametrize("status", [0, 1, -9])
def test_what_dies_after_a_long_life_is_started_again_at_once(
    child: Child, started: list[Process], status: int
) -> None:
    started[0].returncode = status
    child.revive(6.0)
    assert len(started) == 2


def test_what_dies_young_is_started_again_after_a_pause(
    child: Child, started: list[Process]
) -> None:
    started[0].returncode = 1
    child.revive(1.0)
    child.revive(1.19)
    assert len(started) == 1
    child.revive(1.2)
    assert len(started) == 2


def test_the_pauses_grow_while_it_dies_young_and_end_at_two_seconds(child: Child) -> None:
    pauses = []
    for now_s in range(6):
        child.started_s = float(now_s)
        pauses.append(child.pause_s(now_s + 0.1))
    assert pauses == [0.2, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_after_a_long_life_the_pauses_begin_anew(child: Child) -> None:
    assert [child.pause_s(0.1), child.pause_s(0.2), child.pause_s(5.1)] == [0.2, 0.5, 0.0]
    assert child.pause_s(0.1) == 0.2


def test_a_life_counts_from_its_start_and_not_from_the_death_before_it(
    child: Child, started: list[Process]
) -> None:
    child.deaths = 3
    started[0].returncode = 1
    child.revive(1.0)  # dead; the pause is two seconds
    child.revive(3.0)
    started[1].returncode = 1
    child.revive(7.0)  # lived four seconds: still young
    child.revive(8.9)
    assert len(started) == 2
    child.revive(9.0)
    assert len(started) == 3


def test_while_one_waits_for_its_pause_another_is_started_at_once(
    child: Child, started: list[Process]
) -> None:
    other = Child("server.producer", BIRTH)
    other.start(0.0)
    started[0].returncode = 1
    child.deaths = 4
    child.revive(1.0)
    other.deaths = -1  # its first death
    started[1].returncode = 1
    other.revive(1.0)
    assert [process.command[-2] for process in started[2:]] == ["server.producer"]


def test_its_death_is_told_once(
    child: Child, started: list[Process], capsys: pytest.CaptureFixture[str]
) -> None:
    started[0].returncode = -9
    for now_s in (1.0, 1.1, 1.2):
        child.revive(now_s)
    assert capsys.readouterr().err == "loa: server.sender ended with -9; starting it again\n"


def test_a_machine_too_short_of_memory_to_start_it_is_asked_again(
    child: Child, started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    started[0].returncode = 1
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", fail)
        child.revive(10.0)
    child.revive(11.9)
    assert len(started) == 1
    child.revive(12.0)
    assert len(started) == 2


def test_how_long_it_may_be_left_alone_is_until_its_pause_is_over(
    child: Child, started: list[Process]
) -> None:
    patience_s = child.revive(1.0)
    started[0].returncode = 1
    child.deaths = 3
    assert child.revive(2.0) == 2.0
    assert child.revive(3.5) == 0.5
    assert child.revive(4.0) == patience_s > 5
    assert len(started) == 2


def test_a_death_is_noticed_at_once() -> None:
    """Seen to fail without a handler for SIGCHLD."""
    with supervise._signals() as signals:
        began_s = time.monotonic()
        with subprocess.Popen(["true"]):
            signals.wait(10.0)
        assert time.monotonic() - began_s < 5
        assert signals.stopping == []


def test_a_signal_that_comes_just_before_the_waiting_ends_it_too() -> None:
    with supervise._signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        began_s = time.monotonic()
        signals.wait(10.0)
        assert time.monotonic() - began_s < 5
        assert signals.stopping == [signal.SIGTERM]


def test_a_child_starts_no_threads_of_a_library_for_matrices(
    started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOA_TEST", "kept")
    Child("server.sender", BIRTH).start(0.0)
    assert started[0].environment["OPENBLAS_NUM_THREADS"] == "1"
    assert started[0].environment["LOA_TEST"] == "kept"


def test_a_child_that_ends_before_the_station_is_ready_ends_the_start(
    child: Child, started: list[Process]
) -> None:
    reading, writing = os.pipe()
    try:
        started[0].returncode = 0
        with pytest.raises(SettingsError, match="could not start"):
            supervise._wait_ready(reading, [child], [])
    finally:
        os.close(reading)
        os.close(writing)


def test_a_signal_ends_the_waiting_for_the_start(child: Child) -> None:
    reading, writing = os.pipe()
    try:
        supervise._wait_ready(reading, [child], [2])
    finally:
        os.close(reading)
        os.close(writing)


def test_control_alone_is_told_the_database_and_by_no_way_that_others_see(
    child: Child, started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://loa:hush@192.0.2.1/loa"
    monkeypatch.setenv("LOA_DATABASE", url)
    with supervise._resources(Settings(port=0, database=url)) as (births, _, _):
        assert read_database(births["server"].database) == url
        for name, birth in births.items():
            assert (read_database(birth.database) is None) == (name != "server")
            assert "hush" not in birth.to_argument()
    with supervise._resources(Settings(port=0)) as (births, _, _):
        assert read_database(births["server"].database) is None
    child.start(1.0)
    assert "LOA_DATABASE" not in started[-1].environment
