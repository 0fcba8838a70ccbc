"""What is judged of the station itself: its folder, database, keys, and what it says. Pure.

A `problem` is what reading it said, in one line with what to do; None if it could be read.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from server.doctor.findings import Finding, Level, size_text

DAY_S: Final = 86_400
# A disk so full fails in hours; that of a year's audit log has more.
LITTLE_BYTES, SOON_BYTES = 64 * 10**6, 10**9
FEW_FILES: Final = 100
EXPIRES_SOON_S: Final = 30 * DAY_S
BACKUP_OLD_S: Final = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """`exposed` are paths below it, or itself, that others may read or write."""

    path: str
    problem: str | None
    is_own: bool
    exposed: tuple[str, ...]


def check_folder(facts: FolderFacts) -> Finding:
    """A whole station, of this user and closed to others."""
    if facts.problem is not None:
        return Finding("folder", Level.WRONG, facts.problem)
    if not facts.is_own:
        found = f"{facts.path} is of another user"
        return Finding("folder", Level.WRONG, found, "run as the station's user")
    if facts.exposed:
        more = f" and {len(facts.exposed) - 1} more" if len(facts.exposed) > 1 else ""
        remedy = f"`chmod -R go= {shlex.quote(facts.path)}`"
        found = f"{facts.exposed[0]}{more}: others can open that"
        return Finding("folder", Level.WRONG, found, remedy)
    return Finding("folder", Level.OK, f"{facts.path} is closed to others")


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What this user may still write; `free_files` is None where the file system counts none."""

    path: str
    free_bytes: int
    free_files: int | None


def check_disk(facts: DiskFacts) -> Finding:
    """Room for what is to be kept."""
    found = f"{size_text(facts.free_bytes)} are free on the disk of {facts.path}"
    if facts.free_bytes < LITTLE_BYTES:
        return Finding("disk", Level.WRONG, found, "make room on it")
    if facts.free_files is not None and facts.free_files < FEW_FILES:
        found = f"the disk of {facts.path} has room for {facts.free_files} more files"
        return Finding("disk", Level.WRONG, found, "remove some there")
    if facts.free_bytes < SOON_BYTES:
        return Finding("disk", Level.LOOK, found, "make room on it before it is full")
    return Finding("disk", Level.OK, found)


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """`damage` is what the database says is wrong in it, `speakers` are registered."""

    shown: str
    problem: str | None
    damage: tuple[str, ...] = ()
    revision: str = ""
    newest: str = ""
    speakers: int = 0


def check_database(facts: DatabaseFacts) -> Finding:
    """It is reached, whole, and of tables that this program knows."""
    if facts.problem is not None:
        return Finding("database", Level.WRONG, facts.problem)
    if facts.damage:
        remedy = "stop the station and restore the last back-up (`loa restore`)"
        return Finding("database", Level.WRONG, f"{facts.shown}: {facts.damage[0]}", remedy)
    found = f"{facts.shown} is sound, of tables {facts.revision}"
    if facts.revision != facts.newest:
        remedy = f"back it up; `loa serve` of this version brings it to {facts.newest}"
        return Finding("database", Level.LOOK, found, remedy)
    return Finding("database", Level.OK, f"{found}, with {facts.speakers} loudspeakers")


@dataclass(frozen=True, slots=True)
class KeysFacts:
    """Of the key that the station speaks with."""

    problem: str | None
    generation: int = 0
    has_root: bool = False


def check_keys(facts: KeysFacts) -> Finding:
    """They can be read, and fit each other."""
    if facts.problem is not None:
        return Finding("keys", Level.WRONG, facts.problem)
    root = "with the root" if facts.has_root else "the root is kept elsewhere"
    return Finding("keys", Level.OK, f"of generation {facts.generation}, {root}")


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """For TLS; `is_given` by the operator, or made by `loa init`. UTC seconds."""

    path: str
    is_given: bool
    problem: str | None
    valid_from_s: int = 0
    valid_until_s: int = 0


def check_certificate(facts: CertificateFacts, now_s: int, folder: str) -> Finding:
    """It can be used with its key, now and in a month."""
    if facts.problem is not None:
        return Finding("certificate", Level.WRONG, facts.problem)
    made_anew = (
        f"move {folder}/tls away, `loa keys create --data {shlex.quote(folder)}`, restart the "
        "station"
    )
    remedy = "put a new one in its place and restart the station" if facts.is_given else made_anew
    if now_s < facts.valid_from_s:
        found = f"{facts.path} is not valid yet"
        return Finding("certificate", Level.WRONG, found, "set the clock of this machine")
    left_s = facts.valid_until_s - now_s
    if left_s <= 0:
        return Finding("certificate", Level.WRONG, f"{facts.path} has expired", remedy)
    whose = "given by you" if facts.is_given else "its own"
    found = f"{facts.path} ({whose}) expires in {left_s // DAY_S} days"
    if left_s < EXPIRES_SOON_S:
        return Finding("certificate", Level.LOOK, found, remedy)
    return Finding("certificate", Level.OK, found)


@dataclass(frozen=True, slots=True)
class AnchorFacts:
    """A place for heads of the audit log; `is_beside` the log itself, on one disk."""

    shown: str
    problem: str | None
    is_beside: bool = False


def check_anchors(anchors: Sequence[AnchorFacts]) -> list[Finding]:
    """One for each, or one that says there is none."""
    if not anchors:
        return [Finding("anchors", Level.OK, "none are set (audit_file, audit_syslog ...)")]
    return [_check_anchor(anchor) for anchor in anchors]


def _check_anchor(facts: AnchorFacts) -> Finding:
    if facts.problem is not None:
        remedy = "look after it, or correct it in the settings"
        return Finding("anchors", Level.WRONG, f"{facts.shown}: {facts.problem}", remedy)
    if facts.is_beside:
        remedy = "whoever can change the log can change that: name one on another machine's disk"
        return Finding("anchors", Level.LOOK, f"{facts.shown} is on the log's own disk", remedy)
    return Finding("anchors", Level.OK, f"{facts.shown} can be reached")


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """Of a file that `loa backup` wrote; UTC seconds."""

    file: str
    problem: str | None
    station: str = ""
    made_at_s: int = 0


def check_backup(facts: BackupFacts | None, now_s: int) -> Finding:
    """It is whole and young; None if nobody said where it is."""
    if facts is None:
        return Finding("back-up", Level.OK, "not looked at (`--backup FILE` names the last one)")
    if facts.problem is not None:
        return Finding("back-up", Level.WRONG, facts.problem, "write another with `loa backup`")
    age_s = max(0, now_s - facts.made_at_s)
    found = f"{facts.file} is whole, of {facts.station!r}, and {age_s // DAY_S} days old"
    if age_s > BACKUP_OLD_S:
        return Finding("back-up", Level.LOOK, found, "write another with `loa backup`")
    return Finding("back-up", Level.OK, found)


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """Whether a station runs here, and what it answers: of `speakers` so many are `online`.

    `name` is empty if it was not asked, for its port is any (0).
    """

    is_running: bool
    problem: str | None = None
    name: str = ""
    speakers: int = 0
    online: int = 0


def check_answer(facts: AnswerFacts) -> Finding:
    """One that runs answers."""
    if not facts.is_running:
        return Finding("station", Level.OK, "it does not run; `loa serve` starts it")
    if facts.problem is not None:
        remedy = "look at what `loa serve` says, and restart it"
        return Finding("station", Level.WRONG, f"it runs and {facts.problem}", remedy)
    if not facts.name:
        return Finding("station", Level.OK, "it runs; its port is any, so it was not asked")
    found = f"{facts.name!r} runs; {facts.online} of {facts.speakers} loudspeakers are online"
    return Finding("station", Level.OK, found)
