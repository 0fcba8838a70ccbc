"""`loa programmes`: what is on air, and what was; and its key, for a stock player."""

import argparse

from server.cli.api import OK, UsageError, add_verb, how_many, parser, run, verbs_of
from server.cli.table import Column, Row, field, show_json, show_table
from server.cli.text import audience, duration, level, listed, moment, standing
from server.remote import call, path_of, rows
from transport.control.priority import Priority

_ON_AIR = "/api/v1/programmes"


def _lasted(row: Row) -> str:
    ended = row["ended_at"]
    return duration(None if ended is None else ended - row["began_at"])


def _along(row: Row) -> str:
    """Of each encoding, how many ms back its copies are, or its code; `-` for one without."""
    both = zip(row["copies_ms"], row["codes"], strict=True)
    each = (
        "+".join(f"{ms:g}" for ms in copies) or "-" if code is None else "code {}+{}".format(*code)
        for copies, code in both
    )
    return ", ".join(each)


ON_AIR = (
    field("name"),
    field("priority"),
    Column("to", audience),
    field("state"),
    Column("note", standing),
    Column("for", lambda row: duration(row["seconds"]), right=True),
    Column("level", lambda row: level(row["level_dbfs"]), right=True),
    Column("D", lambda row: f"{row['playout_delay_ms']:g} ms", right=True),
    Column("copies ms", _along),
    Column("speakers", lambda row: str(row["speakers"]), right=True),
    Column("interrupted at", lambda row: str(row["interrupted_at"]), right=True),
    Column("not in step", lambda row: listed(row["not_in_step"], 3)),
)
_PAST = (
    field("name"),
    Column("priority", lambda row: Priority(row["priority"]).name.lower()),
    Column("to", lambda row: audience(row["request"])),
    Column("note", lambda row: standing(row["request"])),
    Column("began", lambda row: moment(row["began_at"])),
    Column("lasted", _lasted, right=True),
    Column("why it ended", lambda row: row["why_ended"] or "it is on air"),
)


def _parser() -> argparse.ArgumentParser:
    made = parser("programmes", "What is on air, or was.")
    made.add_argument("--past", action="store_true", help="what was, newest first")
    made.add_argument(
        "--limit", type=how_many, metavar="N", help="how many of the past (the newest 50)"
    )
    key = add_verb(
        verbs_of(made), "key", "what opens a programme's sound now, for a stock player", _key
    )
    key.add_argument("name", metavar="NAME", help="such as live-7")
    return made


def main(argv: list[str]) -> int:
    """List programmes, or show the key of one."""
    return run(_parser(), argv, _list)


def on_air(server: str) -> list[Row]:
    """The programmes that have not ended."""
    return [row for row in rows(server, _ON_AIR) if row["state"] != "ended"]


def _list(options: argparse.Namespace) -> int:
    if options.limit is not None and not options.past:
        raise UsageError("--limit goes with --past")
    if options.past:
        found = rows(options.server, f"{_ON_AIR}/past", most=options.limit or 50)
    else:
        found = rows(options.server, _ON_AIR)
    if options.json:
        show_json(found)
    elif found:
        show_table(_PAST if options.past else ON_AIR, found)
    else:
        print("nothing was on air yet" if options.past else "nothing is on air")
    return OK


_KEYS = (
    Column("frames", lambda row: f"{row['frame_ms']:g} ms", right=True),
    Column("group", lambda row: _place(row) or "unicast alone"),
    Column("epoch", lambda row: str(row["epoch"]), right=True),
    field("SSRC", "ssrc"),
    field("key"),
)


def _place(row: Row) -> str:
    return "" if row["group"] is None else f"{row['group']}:{row['port']}"


def _key(options: argparse.Namespace) -> int:
    answer = call(options.server, "GET", f"{path_of(_ON_AIR, options.name)}/key")
    if options.json:
        show_json(answer)
        return OK
    show_table(_KEYS, answer["streams"])
    heard = [row for row in answer["streams"] if row["group"] is not None]
    for row in heard:
        print(f"\nuntil the epoch ends, where the group arrives:\n{_player(row)}")
    if not heard:
        print("\nno loudspeaker hears it from its group, so a stock player can hear nothing of it")
    return OK


def _player(row: Row) -> str:
    """A command that plays what is sealed, but checks no signature: RFC 7714's AES-128-GCM."""
    caps = (
        "application/x-srtp",
        "media=audio",
        "clock-rate=48000",
        "encoding-name=OPUS",
        f"payload={row['payload_type']}",
        f"ssrc=(uint){int(row['ssrc'], 16)}",
        f"srtp-key=(buffer){row['key']}",
        "srtp-cipher=aes-128-gcm",
        "srtp-auth=null",
        "srtcp-cipher=aes-128-gcm",
        "srtcp-auth=null",
        "roc=(uint)0",
    )
    source = f"udpsrc address={row['group']} port={row['port']} caps='{','.join(caps)}'"
    return (
        f"gst-launch-1.0 {source} ! srtpdec ! rtpopusdepay ! opusdec ! audioconvert ! autoaudiosink"
    )
