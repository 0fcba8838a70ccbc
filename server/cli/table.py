"""Tables and JSON on standard output."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from server.cli.text import NOTHING, printable

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A title, and what stands below it."""

    title: str
    cell: Callable[[Row], str]
    right: bool = False

    def of(self, row: Row) -> str:
        """What is shown; a dash for nothing."""
        return printable(self.cell(row)) or NOTHING


def field(title: str, name: str | None = None) -> Column:
    """What the API calls `name`, which is the title unless it is said."""
    return Column(title, lambda row: str(row[name or title]))


def lines_of(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """The titles, and a line for each row, one below the other."""
    cells = [[column.title for column in columns], *([c.of(row) for c in columns] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    return [_line(columns, line, widths) for line in cells]


def show_table(
    columns: Sequence[Column], rows: Sequence[Row], style: Callable[[Row], str] = lambda _: ""
) -> None:
    """Print rows below their titles; a row's `style` is seen on a terminal alone."""
    console = Console(highlight=False)
    for line, look in zip(lines_of(columns, rows), ["bold", *map(style, rows)], strict=True):
        if look and console.is_terminal:
            console.print(Text(line, look), soft_wrap=True)
        else:
            print(line)


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = []
    for column, cell, width in zip(columns, cells, widths, strict=True):
        blank = " " * (width - cell_len(cell))
        padded.append(blank + cell if column.right else cell + blank)
    return "  ".join(padded).rstrip()


def show_fields(row: Row) -> None:
    """Print one row, a field a line."""
    width = max(map(cell_len, row))
    for name, value in row.items():
        print(f"{name:<{width}}  {_plain(value)}")


def _plain(value: Any) -> str:
    match value:
        case None | "" | []:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case list():
            return printable(", ".join(map(str, value)))
        case dict():
            return printable(", ".join(f"{name} {_plain(part)}" for name, part in value.items()))
        case _:
            return printable(value)


def show_json(answer: Any) -> None:
    """Print what the API answered; nothing if it only said that it is done."""
    if answer is not None:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
