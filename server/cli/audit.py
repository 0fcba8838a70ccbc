"""`loa audit`: who did what and was refused what; taken out of the station, and verified."""

import argparse
import base64
import binascii
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlencode

from rich.console import Console
from rich.progress import Progress

from server.audit.head import Head
from server.audit.lines import MAX_LINE_BYTES, LineError, parse_line
from server.audit.row import instant
from server.audit.verification import Flaw, Verified, Verifier, is_anchor
from server.cli.api import (
    FAILED,
    OK,
    UsageError,
    add_verb,
    complain,
    how_many,
    parser,
    run,
    verbs_of,
)
from server.cli.table import Column, Row, field, show_json, show_table
from server.cli.text import printable
from server.data import DataError, DataFolder, default_folder
from server.keys.folder import KeyFolder, KeysError
from server.remote import call, download, rows
from transport.security.errors import BadKey
from transport.security.keys import (
    FINGERPRINT_BYTES,
    PUBLIC_BYTES,
    VerifyKey,
    fingerprint,
    shown_fingerprint,
)

_AUDIT = "/api/v1/audit"
_STANDARD = "-"
_LONGEST_DETAILS = 60
# How often progress is shown, in lines.
_STEP = 1000


def _on(row: Row) -> str:
    said = row["on"]
    if not isinstance(said, dict):
        return str(said)
    parts = ", ".join(f"{name} {_short(value)}" for name, value in said.items())
    return f"{parts[:_LONGEST_DETAILS]}..." if len(parts) > _LONGEST_DETAILS else parts


def _short(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


_COLUMNS = (
    Column("row", lambda row: str(row["seq"]), right=True),
    Column("at (UTC)", lambda row: row["at"][:19].replace("T", " ")),
    field("who"),
    field("from", "where"),
    field("what"),
    Column("on", _on),
    field("outcome"),
    field("why"),
)


def _parser() -> argparse.ArgumentParser:
    made = parser("audit", "The audit log: who did what, and was refused what, newest first.")
    _add_window(made, 50)
    verbs = verbs_of(made)
    _add_window(add_verb(verbs, "show", "the newest rows", _show), argparse.SUPPRESS)
    export = add_verb(verbs, "export", "write the whole log into a file, signed", _export)
    export.add_argument("file", metavar="FILE", help="a new file, or - for standard output")
    verify = add_verb(
        verbs, "verify", "see whether an exported log is whole, and whose it is", _verify
    )
    verify.add_argument("file", metavar="FILE", help="what `loa audit export` wrote")
    verify.add_argument(
        "--key",
        metavar="KEY",
        help="the station's root: the fingerprint that `loa keys show` says, or its public key in "
        "64 hexadecimal digits (that of this machine's station)",
    )
    verify.add_argument(
        "--anchor",
        metavar="FILE",
        action="append",
        default=[],
        help="heads that were kept elsewhere, also in the middle of other text, as of a log host",
    )
    return made


def _add_window(made: argparse.ArgumentParser, limit: int | str) -> None:
    suppressed = argparse.SUPPRESS if limit is argparse.SUPPRESS else None
    made.add_argument(
        "--limit", type=how_many, default=limit, metavar="N", help="how many (the newest 50)"
    )
    made.add_argument(
        "--before", type=int, default=suppressed, metavar="ROW", help="those before this row"
    )
    for option, metavar, what in (
        ("--who", "NAME", "what this user, token or loudspeaker did"),
        ("--what", "VERB", "one kind of deed: zone, or zone.put"),
        ("--since", "INSTANT", "from then on: 2026-11-20T05:00Z"),
        ("--until", "INSTANT", "before then"),
    ):
        made.add_argument(option, default=suppressed, metavar=metavar, help=what)
    refused = argparse.SUPPRESS if suppressed else False
    made.add_argument(
        "--refused", action="store_true", default=refused, help="what was refused alone"
    )


def main(argv: list[str]) -> int:
    """Show the log, take it out, or verify what was taken out."""
    return run(_parser(), argv, _show)


# ------------------------------------------------------------------ show
def _show(options: argparse.Namespace) -> int:
    query = {
        "after": options.before,
        "who": options.who,
        "what": options.what,
        "outcome": "refused" if options.refused else None,
        "since": options.since,
        "until": options.until,
    }
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    found = rows(options.server, f"{_AUDIT}?{asked}", most=options.limit)
    if options.json:
        show_json(found)
        return OK
    show_table(_COLUMNS, found, lambda row: "red" if row["outcome"] == "refused" else "")
    if len(found) == options.limit and found[-1]["seq"] > 1:
        print(f"\nolder ones: loa audit --before {found[-1]['seq']}")
    for anchor in call(options.server, "GET", f"{_AUDIT}/state")["anchors"]:
        if anchor["fault"]:
            complain("loa audit", f"not anchored at {anchor['shown']}: {anchor['fault']}")
    return OK


# ------------------------------------------------------------------ export
def _export(options: argparse.Namespace) -> int:
    if options.file == _STANDARD:
        for part in download(options.server, f"{_AUDIT}/export"):
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return OK
    path = Path(options.file)
    with _new_file(path) as file:
        for part in download(options.server, f"{_AUDIT}/export"):
            file.write(part)
    print(f"{printable(path)} holds the log; verify it with `loa audit verify {printable(path)}`")
    return OK


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is there when it is whole; UsageError if there is one already."""
    if path.exists():
        raise UsageError(f"{path} exists already: name a new file")
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)


# ------------------------------------------------------------------ verify
def _verify(options: argparse.Namespace) -> int:
    trusted = _own_root() if options.key is None else _fingerprint(options.key)
    anchors = [head for name in options.anchor for head in _anchors(name, trusted)]
    verifier = Verifier(trusted, anchors)
    try:
        _feed(verifier, options.file)
        verified = verifier.finish()
    except Flaw as flaw:
        if options.json:
            show_json({"whole": False, "row": flaw.row, "why": str(flaw)})
        return complain("loa audit verify", f"{options.file}: {flaw}", FAILED)
    if options.json:
        show_json({"whole": True, **_figures(verified)})
    else:
        _say(options.file, verified)
    return OK


def _figures(verified: Verified) -> dict[str, object]:
    cut = verified.cut
    return {
        "rows": verified.rows,
        "heads": verified.heads,
        "root": shown_fingerprint(verified.root),
        "generation": verified.generation,
        "signed_at": instant(verified.closed_at_ns),
        "anchors": verified.anchors,
        "cut": None if cut is None else {"up_to": cut.seq, "at": instant(cut.at_ns)},
        "anchors_cut": verified.anchors_cut,
        "rooted": verified.rooted,
    }


def _say(name: str, verified: Verified) -> None:
    cut, whole = verified.cut, "whole"
    if cut is not None:
        whole = f"whole from row {cut.seq + 1} on"
    at = _second(verified.closed_at_ns)
    print(f"{printable(name)} is {whole}: {verified.rows} rows, signed at {at} UTC")
    if cut is not None:
        print(f"(the station has cut off rows 1 to {cut.seq}, at {_second(cut.at_ns)} UTC)")
    print(f"by the station of the root {shown_fingerprint(verified.root)}")
    print(f"(its key of generation {verified.generation}; {verified.heads} heads in all)")
    if verified.rooted:
        print(f"rows before {verified.rooted} were signed under another root: whoever had that, or")
        print("could write into the database when it was changed, could have made them anew")
    if verified.anchors_cut:
        print(f"{verified.anchors_cut} anchored heads are of rows that were cut off")
    if verified.anchors:
        print(f"{verified.anchors} anchored heads agree")
    elif not verified.anchors_cut:
        print("no anchor was given: whoever had the station's key could have made all of it anew")


def _second(at_ns: int) -> str:
    return instant(at_ns)[:19].replace("T", " ")


def _feed(verifier: Verifier, name: str) -> None:
    console = Console(stderr=True)
    with (
        _open(name) as (file, size),
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("verifying", total=size)
        done = 0
        for number, line in enumerate(_lines(file), 1):
            verifier.feed(line)
            done += len(line) + 1
            if number % _STEP == 0:
                progress.update(task, completed=done, description=f"row {verifier.rows}")


@contextmanager
def _open(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """A file or standard input, and how long it is if that is known."""
    if name == _STANDARD:
        yield sys.stdin.buffer, None
        return
    try:
        with Path(name).open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES):
        yield line.removesuffix(b"\n")


def _anchors(name: str, trusted: bytes) -> list[Head]:
    """The heads of this station in a file; what else is there is told, and left alone."""
    heads, others = [], 0
    with _open(name) as (file, _):
        for line in _lines(file):
            begin, end = line.find(b'{"head"'), line.rfind(b"}")
            if begin < 0:
                continue
            try:
                head = parse_line(line[begin : end + 1])
            except LineError:
                head = None
            if isinstance(head, Head) and is_anchor(head, trusted):
                heads.append(head)
            else:
                others += 1
    if others:
        complain("loa audit verify", f"{name}: {others} heads are not of this station")
    if not heads:
        raise UsageError(f"{name} holds no head of this station")
    return heads


def _fingerprint(text: str) -> bytes:
    """Of a key that a person gave; UsageError if it is none."""
    plain = text.replace("-", "").replace(":", "").strip()
    try:
        if len(plain) == 2 * PUBLIC_BYTES:
            return fingerprint(VerifyKey(bytes.fromhex(plain)).public)
        short = base64.b32decode(plain.upper() + "=" * (-len(plain) % 8))
        if len(short) == FINGERPRINT_BYTES:
            return short
    except (ValueError, binascii.Error, BadKey):
        pass
    raise UsageError("--key is the root's fingerprint or public key: `loa keys show` says it")


def _own_root() -> bytes:
    """Of this machine's station; UsageError if there is none."""
    try:
        folder = DataFolder(default_folder(os.environ))
        return fingerprint(KeyFolder(folder.keys).load().certificate.root)
    except (DataError, KeysError):
        raise UsageError(
            "whose log shall it be? give --key, with the root's fingerprint that `loa keys show` "
            "says on the station's machine (not what the file itself says)"
        ) from None
