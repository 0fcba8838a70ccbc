"""The whole examination of a station and its machine, in the order that a person asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from server.data import DataError, DataFolder
from server.doctor import machine, read_machine, read_station, station
from server.doctor.findings import Finding, Level
from server.settings import Settings
from transport.net.clocks import wall_offset_ns


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be examined: the station of these settings, that answers at `server`.

    `server` is None if nobody knows its port; `backup` is a file that `loa backup` wrote, None if
    nobody named one; `now_s`: UTC seconds.
    """

    settings: Settings
    folder: DataFolder
    server: str | None
    environment: Mapping[str, str]
    backup: Path | None
    now_s: int


def examine(asked: Asked) -> list[Finding]:
    """Every finding; nothing is changed."""
    offset_ns = wall_offset_ns()
    folder = station.check_folder(read_station.folder_facts(asked.folder))
    found = [folder]
    process: int | None = None
    speakers = 0
    if asked.folder.holds_station():
        process = read_station.process_in(asked.folder)
        database, speakers = _database(asked)
        found += [*_station(asked, process), database]
    found += _machine(asked.settings, process, speakers)
    # Last: a step meanwhile is seen.
    stepped_ns = wall_offset_ns() - offset_ns
    clock = machine.ClockFacts(read_machine.clock_is_synchronised(), stepped_ns)
    return [*found, machine.check_clock(clock)]


def _database(asked: Asked) -> tuple[Finding, int]:
    """And how many loudspeakers are registered, as far as that can be read."""
    try:
        facts = read_station.database_facts(asked.folder.place(asked.settings.database))
    except DataError as error:
        facts = station.DatabaseFacts("", str(error))
    return station.check_database(facts), facts.speakers


def _station(asked: Asked, process: int | None) -> list[Finding]:
    folder, now_s, path = asked.folder, asked.now_s, asked.folder.path
    is_running = process is not None
    answer = read_station.answer_facts(
        folder, asked.server, asked.environment, is_running=is_running
    )
    certificate = read_station.certificate_facts(folder, asked.settings)
    backup = None if asked.backup is None else read_station.backup_facts(asked.backup)
    return [
        station.check_answer(answer),
        _readable("disk", lambda: station.check_disk(read_station.disk_facts(path))),
        station.check_keys(read_station.keys_facts(folder)),
        station.check_certificate(certificate, now_s, str(path)),
        *station.check_anchors(read_station.anchors_facts(asked.settings, path)),
        station.check_backup(backup, now_s),
    ]


def _machine(settings: Settings, process: int | None, speakers: int) -> list[Finding]:
    is_running = process is not None
    descriptors = read_machine.descriptor_facts(process, speakers, settings.halls)

    def memory() -> Finding:
        return machine.check_memory(read_machine.memory_facts(speakers, is_running=is_running))

    return [
        machine.check_ports(read_machine.ports_facts(settings, process)),
        machine.check_multicast(read_machine.multicast_facts(settings)),
        machine.check_descriptors(descriptors),
        _readable("buffers", lambda: machine.check_buffers(read_machine.buffer_facts())),
        _readable("memory", memory),
        machine.check_processors(read_machine.processor_facts(settings.senders)),
        machine.check_kernel(read_machine.kernel_facts()),
    ]


def _readable(check: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except OSError as error:
        found = f"{error.filename or 'the kernel'}: {error.strerror or error}"
        return Finding(check, Level.LOOK, found, "run as the station's user, on Linux")
