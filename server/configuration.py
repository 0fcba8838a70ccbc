"""Where settings come from: defaults, then `loa.toml`, then the environment, then the options.

Whatever is wrong is named as the operator wrote it: the line, the variable or the option.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from server.data import DataError, DataFolder, default_folder
from server.settings import HIDDEN, Settings, SettingsError, WrongSettingError

PREFIX = "LOA_"


def _kind(default: object) -> type[bool | int | str]:
    return next((kind for kind in (bool, int) if isinstance(default, kind)), str)


# `data` says where the file is, so it cannot be said in it.
KINDS = {field.name: _kind(field.default) for field in fields(Settings) if field.name != "data"}
_ASK = {bool: "use true or false", int: "use a whole number", str: "use text in quotation marks"}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass(frozen=True, slots=True)
class _Given:
    """A value, and how whoever gave it wrote it."""

    value: bool | int | str
    written: str

    def error(self, reason: str) -> SettingsError:
        # A value from outside may hold a line's end; what a person sees is one line.
        return SettingsError(" ".join(f"{self.written}: {reason}".split()))


def configure(options: Mapping[str, str | bool | None], environment: Mapping[str, str]) -> Settings:
    """The settings that an operator asks for; SettingsError with one line if one is wrong.

    `options` are as given on the command line, None where not given; a number is still text.
    Whether `data` holds a station is not asked here.
    """
    given = dict(options)
    named = given.pop("data", None)
    folder = DataFolder(Path(str(named)) if named else _default_folder(environment))
    values = _from_file(folder.config) | _from_environment(environment) | _from_options(given)
    try:
        return Settings(data=folder.path, **{k: v.value for k, v in values.items()})  # type: ignore[arg-type]
    except WrongSettingError as error:
        raise values[error.setting].error(error.reason) from None


def database_url(option: str | None, environment: Mapping[str, str]) -> str | None:
    """That of a database to be made: the option, or LOA_DATABASE; SettingsError if it is none.

    None is a file in the station's folder. Everybody on the machine sees an option, so no password
    may be in it.
    """
    given = option or environment.get(f"{PREFIX}DATABASE") or None
    if given is None:
        return None
    try:
        Settings(database=given)
        password = urlsplit(option or "").password or "password=" in (option or "")
    except WrongSettingError as error:
        written = "--database" if option else f"{PREFIX}DATABASE"
        raise SettingsError(f"{written} {HIDDEN}: {error.reason}") from None
    if password:
        raise SettingsError(
            "--database: everybody on this machine sees a password there; set LOA_DATABASE instead"
        )
    return given


def toml_text(text: str) -> str:
    """A text as TOML has it."""
    return json.dumps(text, ensure_ascii=False)


def _default_folder(environment: Mapping[str, str]) -> Path:
    try:
        return default_folder(environment)
    except DataError as error:
        raise SettingsError(str(error)) from None


# ------------------------------------------------------------------ loa.toml
def _from_file(path: Path) -> dict[str, _Given]:
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror} (run as the station's user)") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path.name} line {line}: save the file as UTF-8") from None
    return _from_toml(text, path.name)


def _from_toml(text: str, name: str) -> dict[str, _Given]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        line = int(found[1]) if found else len(text.rstrip().split("\n"))
        reason = _AT_LINE.sub("", str(error)).removesuffix(" (at end of document)")
        raise SettingsError(f"{name} line {line}: {reason[:1].lower()}{reason[1:]}") from None
    given = {}
    for key, value in table.items():
        line = _line_of(key, text)
        kind = KINDS.get(key)
        if kind is None:
            raise SettingsError(f"{name} line {line}: {_unknown(key, KINDS)}")
        written = f"{name} line {line}: {key} = {_shown(key, _toml(value))}"
        given[key] = _Given(value, written)
        if type(value) is not kind:  # a bool is an int too
            raise given[key].error(_ASK[kind])
    return given


def _line_of(key: str, text: str) -> int:
    """The line, from 1, where a key of the top level begins.

    tomllib tells no lines. But the text up to the end of each statement is TOML as well, so the
    first such beginning that has the key ends with its statement.
    """
    lines = text.split("\n")
    begins = 1
    for count in range(1, len(lines) + 1):
        try:
            table = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        if key in table:
            return begins
        begins = count + 1
    return begins


def _toml(value: Any) -> str:
    if isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    return (
        "[...]" if isinstance(value, list) else "{...}" if isinstance(value, dict) else str(value)
    )


# ------------------------------------------------------------------ LOA_...
def _from_environment(environment: Mapping[str, str]) -> dict[str, _Given]:
    variables = {PREFIX + name.upper(): name for name in KINDS}
    known = [*variables, f"{PREFIX}DATA"]
    given = {}
    for variable, text in environment.items():
        if variable in variables and text:  # an empty one is as good as none
            name = variables[variable]
            given[name] = _read(name, text, f"{variable}={_shown(name, text)}")
        elif variable.startswith(PREFIX) and variable not in known:
            # What else begins so may be meant for another; but a slip of the pen is told.
            near = difflib.get_close_matches(variable, known, n=1, cutoff=0.85)
            if near:
                raise SettingsError(f"{variable}: no such setting; did you mean {near[0]}?")
    return given


# ------------------------------------------------------------------ --options
def _from_options(options: Mapping[str, str | bool | None]) -> dict[str, _Given]:
    given = {}
    for name, value in options.items():
        if isinstance(value, bool):
            given[name] = _Given(value, _as_option(name, value))
        elif value is not None:
            written = f"{_as_option(name, True)} {_shown(name, value)}"
            given[name] = _read(name, value, written)
    return given


def _as_option(name: str, on: bool) -> str:
    return f"--{'' if on else 'no-'}{name.replace('_', '-')}"


# ------------------------------------------------------------------ both
def _shown(name: str, text: str) -> str:
    """What a person may see of a value: there may be a password in a URL."""
    return HIDDEN if name in {"database", "audit_webhook"} else text


def _read(name: str, text: str, written: str) -> _Given:
    kind = KINDS[name]
    if kind is bool and text.lower() in _TRUE | _FALSE:
        return _Given(text.lower() in _TRUE, written)
    if kind is int and _WHOLE.fullmatch(text):
        return _Given(int(text), written)
    if kind is str:
        return _Given(text, written)
    raise _Given(text, written).error(_ASK[kind])


def _unknown(key: str, known: Iterable[str]) -> str:
    if key == "data":
        return "the file lies in that folder; name another with --data or LOA_DATA"
    near = difflib.get_close_matches(key.replace("-", "_").lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}"
    return f"no setting {key!r}; {hint}"
