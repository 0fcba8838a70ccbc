"""The code that a person gives: as a word, on standard input, or in a file."""

import os
from pathlib import Path
from typing import TextIO

from transport.security.enrolment import EnrolmentCode

STANDARD_INPUT = "-"
# More than a code has, so that one which is too long is seen to be.
_MAX_CHARACTERS = 1024


def code_given(text: str, standard_input: TextIO | None) -> EnrolmentCode:
    """What `--enrol` says; ValueError in one line, which never quotes a secret.

    Every user of a machine may read the words that a process was started with (proc(5)), so a code
    may also be the first line of `standard_input`, for `-`, or of a file that exists.
    """
    if text == STANDARD_INPUT:
        return EnrolmentCode.parse(_line("standard input", standard_input))
    if not is_elsewhere(text):
        return EnrolmentCode.parse(text)
    try:
        with Path(text).open(encoding="utf-8-sig") as file:
            return EnrolmentCode.parse(_line(text, file))
    except OSError as error:
        raise ValueError(_unread(text, error)) from None


def is_elsewhere(text: str) -> bool:
    """Whether this only says where the code is."""
    # Unlike pathlib's, this is false for a text that is too long for a name.
    return text == STANDARD_INPUT or os.path.exists(text)  # noqa: PTH110


def _line(where: str, file: TextIO | None) -> str:
    try:
        line = file.readline(_MAX_CHARACTERS).strip() if file is not None else ""
    except OSError as error:
        raise ValueError(_unread(where, error)) from None
    except UnicodeDecodeError:
        raise ValueError(f"there is no code in {where}: that is no text in UTF-8") from None
    if not line:
        raise ValueError(f"there is no code in {where}: its first line is empty")
    return line


def _unread(where: str, error: OSError) -> str:
    return f"cannot read {where} for a code: {error.strerror or error}"
