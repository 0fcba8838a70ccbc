"""`loa stop`: end what is on air."""

import argparse

from server.cli.api import OK, WRONG, UsageError, complain, parser, run
from server.cli.programmes import ON_AIR, on_air
from server.cli.table import show_json, show_table
from server.remote import call


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "stop", "End programmes, everywhere at the same moment. One that is alone needs no name."
    )
    made.add_argument("programmes", nargs="*", metavar="PROGRAMME", help="such as live-7")
    made.add_argument("--all", action="store_true", help="everything that is on air")
    return made


def main(argv: list[str]) -> int:
    """Stop, or say what there is to stop."""
    return run(_parser(), argv, _stop)


def _stop(options: argparse.Namespace) -> int:
    if options.all and options.programmes:
        raise UsageError("name programmes, or --all, not both")
    names: list[str] = options.programmes
    if not names and not options.all:
        rows = on_air(options.server)
        if len(rows) > 1:
            show_table(ON_AIR, rows)
            return complain("loa stop", "which? name programmes, or --all", WRONG)
        if not rows:
            return _say(options, {"ended": []})
        names = [rows[0]["name"]]
    return _say(options, call(options.server, "POST", "/api/v1/stop", {"programmes": names}))


def _say(options: argparse.Namespace, answer: dict[str, list[str]]) -> int:
    if options.json:
        show_json(answer)
        return OK
    for name in answer["ended"]:
        print(f"{name} ended")
    if not answer["ended"]:
        print("it had ended already" if options.programmes else "nothing is on air")
    return OK
