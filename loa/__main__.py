"""The one command: finds the room a verb lives in and hands over."""

import errno
import importlib
import importlib.metadata
import io
import os
import signal
import sys
from pathlib import Path

# group: verb: (module, or module:function, with `main(argv) -> int`; what the verb does)
GROUPS = {
    "the station": {
        "init": ("server.cli.init", "make the folder that a station lives in"),
        "serve": ("server.cli.serve", "run the station: control, producer and sender"),
        "keys": ("server.cli.keys", "its keys: show, back up, restore or rotate them"),
        "backup": ("server.cli.backup", "write all of it into one file, while it runs"),
        "restore": ("server.cli.restore", "make a station of what `loa backup` wrote"),
        "database": ("server.cli.database", "where its database is, and of which tables"),
        "doctor": ("server.cli.doctor", "what may be wrong with it or its machine; what to do"),
    },
    "people": {
        "login": ("server.cli.login:login", "sign in at a station"),
        "logout": ("server.cli.login:logout", "sign out again"),
        "users": ("server.cli.users", "who may do what; add, grant, withdraw, disable ..."),
        "tokens": ("server.cli.tokens", "what programs show in a person's place; add, remove"),
    },
    "speaking": {
        "live": ("server.cli.live", "speak a file, standard input or a test tone to loudspeakers"),
        "stop": ("server.cli.stop", "end what is on air"),
    },
    "looking": {
        "top": ("server.cli.top", "everything at a glance, for as long as you look"),
        "events": ("server.cli.events", "what changes, as it does"),
        "programmes": ("server.cli.programmes", "what is on air, or was"),
        "audit": ("server.cli.audit", "who did what, and was refused what; export it, verify it"),
    },
    "loudspeakers": {
        "speaker": ("endpoints.cli", "be a loudspeaker"),
        "enrol": ("server.cli.enrol", "codes that admit them; list, approve, refuse or cancel"),
        "speakers": ("server.cli.speakers", "how they are; show, set, revoke or remove one"),
        "zones": ("server.cli.zones", "who is addressed together; show, add or remove one"),
        "units": ("server.cli.units", "where they belong; add or remove one"),
        "volume": ("server.cli.loudness:volume", "how loud they are"),
        "mute": ("server.cli.loudness:mute", "silence them, or end that"),
        "calibrate": ("server.cli.calibrate", "trim one to another, by a recording of both"),
        "tone": ("server.cli.commands:tone", "sound a test tone"),
        "identify": ("server.cli.commands:identify", "have them beep, to find out which is which"),
        "restart": ("server.cli.commands:restart", "have them begin anew"),
    },
    "other": {
        "demo": ("bench.demo", "a station and six loudspeakers on this machine, measured"),
        "fleet": ("endpoints.fleet.cli", "be thousands of loudspeakers at once, without sound"),
        "impair": ("bench.impair", "a bad network between real processes, as a UDP proxy"),
        "bench": ("bench.cli", "measure: fanout, fleet, impair, latency, loss, seal, sync"),
    },
}
# What a full disk, a quota and a reader that has gone make of a write.
_OUTPUT_LOST = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
VERBS = {verb: told for group in GROUPS.values() for verb, told in group.items()}


def usage() -> str:
    """The list of verbs, for `loa --help`."""
    lines = ["usage: loa VERB [options]    (loa VERB --help for its options; loa --version)"]
    for group, verbs in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {verb:<12}{what}" for verb, (_, what) in verbs.items())]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit status is its own."""
    words = sys.argv[1:] if argv is None else argv
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal of another alphabet shows what it can of a name.
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in _OUTPUT_LOST or error.filename is not None:
            raise
        _write_no_more()
        if not isinstance(error, BrokenPipeError):  # whoever read our output may have gone
            print(f"loa: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 1


def _run(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help"}:
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"loa {importlib.metadata.version('loa')}")
        return 0
    if words[0] not in VERBS:
        print(f"loa: no verb {words[0]!r}; the verbs are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    # A service manager and a closed terminal end a verb as Ctrl-C does, with all it has started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    module, _, function = VERBS[words[0]][0].partition(":")
    try:
        return int(getattr(importlib.import_module(module), function or "main")(words[1:]))
    except KeyboardInterrupt:
        return 130


def _write_no_more() -> None:
    """Python would try again at its end, and complain in many lines."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
