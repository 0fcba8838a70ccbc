"""The one command: finds the room a verb lives in and hands over."""

import importlib
import signal
import sys

# verb: (module with `main(argv) -> int`, what the verb does)
VERBS = {
    "init": ("server.cli.init", "make the folder that a station lives in"),
    "serve": ("server.cli.serve", "run the station: control, producer and sender"),
    "live": ("server.cli.live", "speak a file, standard input or a test tone to loudspeakers"),
    "speaker": ("endpoints.cli", "be a loudspeaker"),
    "demo": ("bench.demo", "a station and four loudspeakers on this machine, measured"),
    "bench": ("bench.cli", "measure: latency"),
}


def usage() -> str:
    """The list of verbs, for `loa --help`."""
    lines = [f"  {verb:<9}{what}" for verb, (_, what) in VERBS.items()]
    return "usage: loa VERB [options]    (loa VERB --help for its options)\n\n" + "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit status is its own."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in {"-h", "--help"}:
        print(usage())
        return 0 if words else 2
    if words[0] not in VERBS:
        print(f"loa: no verb {words[0]!r}; the verbs are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    # A service manager and a closed terminal end a verb as Ctrl-C does, with all it has started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return int(importlib.import_module(VERBS[words[0]][0]).main(words[1:]))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        return 1


if __name__ == "__main__":
    sys.exit(main())
