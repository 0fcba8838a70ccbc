"""What is judged of a station, on made facts: each check passes and fails."""

import dataclasses

import pytest

from server.doctor.findings import Finding, Level
from server.doctor.station import (
    DAY_S,
    AnchorFacts,
    AnswerFacts,
    BackupFacts,
    CertificateFacts,
    DatabaseFacts,
    DiskFacts,
    FolderFacts,
    KeysFacts,
    check_anchors,
    check_answer,
    check_backup,
    check_certificate,
    check_database,
    check_disk,
    check_folder,
    check_keys,
)

NOW_S = 1_800_000_000
FOLDER = FolderFacts("/srv/my loa", None, is_own=True, exposed=())
DISK = DiskFacts("/srv", 10**10, 10_000)
DATABASE = DatabaseFacts("/srv/loa.sqlite3", None, (), "0005", "0005", 12)
CERTIFICATE = CertificateFacts("/a.pem", False, None, NOW_S - DAY_S, NOW_S + 31 * DAY_S)


def is_level(finding: Finding, level: Level, *words: str) -> None:
    assert finding.level is level, finding
    assert len(finding.line.splitlines()) == 1
    for word in words:
        assert word in finding.line
    if level is not Level.OK:
        assert ": " in finding.line  # what to do follows


def test_a_folder_of_this_user_that_is_closed_is_well() -> None:
    is_level(check_folder(FOLDER), Level.OK, "/srv/my loa")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"problem": "/srv holds no station: make one"}, ["holds no station"]),
        ({"is_own": False}, ["run as the station's user"]),
        ({"exposed": ("/srv/my loa/keys",)}, ["/srv/my loa/keys:", "chmod -R go= '/srv/my loa'"]),
        ({"exposed": ("/a", "/b", "/c")}, ["/a and 2 more"]),
    ],
)
def test_a_folder_that_is_not(changed: dict[str, object], words: list[str]) -> None:
    facts = dataclasses.replace(FOLDER, **changed)  # type: ignore[arg-type]
    is_level(check_folder(facts), Level.WRONG, *words)


@pytest.mark.parametrize(
    ("free_bytes", "free_files", "level"),
    [
        (10**10, 10_000, Level.OK),
        (10**10, None, Level.OK),
        (10**9, 10_000, Level.OK),
        (10**9 - 1, 10_000, Level.LOOK),
        (64 * 10**6 - 1, 10_000, Level.WRONG),
        (10**10, 99, Level.WRONG),
    ],
)
def test_a_disk_has_room(free_bytes: int, free_files: int | None, level: Level) -> None:
    is_level(check_disk(DiskFacts("/srv", free_bytes, free_files)), level, "/srv")


def test_a_sound_database_says_how_many_loudspeakers_it_has() -> None:
    is_level(check_database(DATABASE), Level.OK, "12 loudspeakers", "0005")


def test_a_database_that_is_not_reached_damaged_or_older() -> None:
    gone = dataclasses.replace(DATABASE, problem="postgresql://h/loa: start its server")
    is_level(check_database(gone), Level.WRONG, "start its server")
    hurt = dataclasses.replace(DATABASE, damage=("Tree 3 page 5: bad", "more"))
    is_level(check_database(hurt), Level.WRONG, "Tree 3 page 5", "loa restore")
    old = dataclasses.replace(DATABASE, revision="0003")
    is_level(check_database(old), Level.LOOK, "0003", "0005")


def test_keys() -> None:
    is_level(check_keys(KeysFacts(None, 7, has_root=True)), Level.OK, "generation 7, with the root")
    is_level(check_keys(KeysFacts(None, 7)), Level.OK, "kept elsewhere")
    is_level(check_keys(KeysFacts("station.cert is damaged: ...")), Level.WRONG, "damaged")


@pytest.mark.parametrize(
    ("changed", "level", "word"),
    [
        ({}, Level.OK, "its own"),
        ({"is_given": True}, Level.OK, "given by you"),
        ({"valid_until_s": NOW_S + 30 * DAY_S - 1}, Level.LOOK, "loa keys create"),
        ({"valid_until_s": NOW_S}, Level.WRONG, "expired"),
        ({"valid_until_s": NOW_S, "is_given": True}, Level.WRONG, "put a new one"),
        ({"valid_from_s": NOW_S + 1}, Level.WRONG, "clock"),
        ({"problem": "/b is not the key of /a: ..."}, Level.WRONG, "is not the key"),
    ],
)
def test_a_certificate(changed: dict[str, object], level: Level, word: str) -> None:
    facts = dataclasses.replace(CERTIFICATE, **changed)  # type: ignore[arg-type]
    is_level(check_certificate(facts, NOW_S, "/srv/loa"), level, word)


def test_anchors() -> None:
    (none,) = check_anchors([])
    is_level(none, Level.OK, "audit_file")
    found = check_anchors(
        [
            AnchorFacts("file /mnt/a", None),
            AnchorFacts("file /srv/a", None, is_beside=True),
            AnchorFacts("syslog h:514", "no such host"),
        ]
    )
    is_level(found[0], Level.OK, "/mnt/a")
    is_level(found[1], Level.LOOK, "own disk")
    is_level(found[2], Level.WRONG, "no such host")


def test_back_ups() -> None:
    is_level(check_backup(None, NOW_S), Level.OK, "--backup")
    young = BackupFacts("/b.tar", None, "Tân Phú", NOW_S - 7 * DAY_S)
    is_level(check_backup(young, NOW_S), Level.OK, "7 days old", "Tân Phú")
    is_level(check_backup(young, NOW_S + 1), Level.LOOK, "loa backup")
    is_level(check_backup(BackupFacts("/b.tar", "it is cut off"), NOW_S), Level.WRONG, "cut off")


def test_a_station_that_runs_answers() -> None:
    is_level(check_answer(AnswerFacts(is_running=False)), Level.OK, "loa serve")
    well = AnswerFacts(True, None, "Tân Phú", 10, 9)
    is_level(check_answer(well), Level.OK, "9 of 10")
    is_level(check_answer(AnswerFacts(is_running=True)), Level.OK, "not asked")
    mute = AnswerFacts(is_running=True, problem="station not found")
    is_level(check_answer(mute), Level.WRONG, "restart")
