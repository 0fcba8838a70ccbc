"""Lists in pages: `limit` and `after` in the query, the next one in the head (RFC 8288)."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Depends, Query, Request, Response
from pydantic import AwareDatetime

from server.api.errors import SenselessError

_T = TypeVar("_T")

# Of a list that is read from the store and sifted: whoever wants more asks for the next page.
# Of 500 at once a store is busy for 3 ms, in which nothing is written.
_MOST_LOOKED_AT, _MOST_AT_ONCE = 2_000, 500


class Page:
    """One page of a list: at most `limit` of what stands behind `after`.

    A page may be shorter, even empty, and yet have a next one: the reply's `Link` says so.
    """

    def __init__(self, request: Request, response: Response, limit: int, after: str | None) -> None:
        self._request = request
        self._response = response
        self.limit = limit
        self.after = after

    # A class itself would be called in a thread, and wait for one.
    @classmethod
    async def asked(
        cls,
        request: Request,
        response: Response,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
        after: Annotated[
            str | None,
            Query(max_length=2048, description="What the `Link` to the next page says."),
        ] = None,
    ) -> "Page":
        """As the query has it."""
        return cls(request, response, limit, after)

    @property
    def headers(self) -> dict[str, str]:
        """What the reply's head says of the next page, for a route that makes its own reply."""
        link = self._response.headers.get("Link")
        return {} if link is None else {"Link": link}

    def named(self, names: Iterable[str]) -> list[str]:
        """The page's part of these names, sorted."""
        return self.cut(self.behind(names), str)

    def behind(self, names: Iterable[str]) -> list[str]:
        """Of these names those that stand behind `after`, sorted."""
        return sorted(n for n in names if self.after is None or n > self.after)

    def rows(self, rows: Iterable[_T], name: Callable[[_T], str]) -> list[_T]:
        """The page's part of rows that are listed by name."""
        behind = (row for row in rows if self.after is None or name(row) > self.after)
        return self.cut(sorted(behind, key=name), name)

    def numbered(self, rows: Iterable[_T], number: Callable[[_T], int]) -> list[_T]:
        """The page's part of rows that are listed by number, from the first on."""
        after = self.number or 0
        behind = sorted((row for row in rows if number(row) > after), key=number)
        return self.cut(behind, lambda row: str(number(row)))

    def cut(self, behind: Sequence[_T], cursor: Callable[[_T], str]) -> list[_T]:
        """The first of what stands behind, as many as a page has; `cursor` is where each stands."""
        found = list(behind[: self.limit])
        if len(behind) > self.limit:
            self.goes_on(cursor(found[-1]))
        return found

    @property
    def number(self) -> int | None:
        """`after`, where that is a number; SenselessError if it is something else."""
        if self.after is None:
            return None
        if not (self.after.isascii() and self.after.isdigit() and len(self.after) <= 15):
            raise SenselessError("after: that is what no Link has said; leave it out to begin anew")
        return int(self.after)

    async def sifted(
        self,
        read: Callable[[int | None, int], Awaitable[Sequence[_T]]],
        number: Callable[[_T], int],
        wanted: Callable[[_T], _T | None],
    ) -> list[_T]:
        """The page's part of what is read newest first: `read(before, so many)`.

        What is not `wanted` is left out. Some thousand rows are looked at, and then it is enough.
        """
        found: list[_T] = []
        before, looked, size = self.number, 0, self.limit + 1
        while looked < _MOST_LOOKED_AT:
            rows = await read(before, size)
            for row in rows:
                if len(found) == self.limit:
                    self.goes_on(str(before))
                    return found
                before = number(row)
                seen = wanted(row)
                if seen is not None:
                    found.append(seen)
            if len(rows) < size:
                return found
            looked, size = looked + size, _MOST_AT_ONCE
        self.goes_on(str(before))
        return found

    def goes_on(self, cursor: str) -> None:
        """Say in the reply's head where the next page is: behind this one."""
        kept = [(k, v) for k, v in self._request.query_params.multi_items() if k != "after"]
        query = "&".join(f"{quote(k)}={quote(v)}" for k, v in [*kept, ("after", cursor)])
        path = quote(self._request.url.path)
        self._response.headers["Link"] = f'<{path}?{query}>; rel="next"'


Paged = Annotated[Page, Depends(Page.asked)]


class Period:
    """When something was: from `since` on, and before `until`."""

    def __init__(self, since: datetime | None, until: datetime | None) -> None:
        self._since = _told(since)
        self._until = _told(until)

    @classmethod
    async def asked(
        cls,
        since: Annotated[AwareDatetime | None, Query(description="From then on.")] = None,
        until: Annotated[AwareDatetime | None, Query(description="Before then.")] = None,
    ) -> "Period":
        """As the query has it; SenselessError for an instant that no calendar has."""
        return cls(since, until)

    def holds(self, at: str) -> bool:
        """Whether an instant is within, as RFC 3339 has it, in UTC with any decimals."""
        if self._since is not None and at < self._since:
            return False
        return self._until is None or at < self._until


def _told(at: datetime | None) -> str | None:
    """As rows tell it, without a zone; SenselessError for an instant that no calendar has."""
    if at is None:
        return None
    try:
        return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    except OverflowError:
        raise SenselessError("since, until: an instant between the years 1 and 9999") from None


def describe_pages(operation: dict[str, Any]) -> None:
    """What the OpenAPI document says of the head of a reply that is a page."""
    if any(parameter["name"] == "after" for parameter in operation.get("parameters", ())):
        operation["responses"]["200"]["headers"] = {
            "Link": {
                "description": 'The next page, `rel="next"` (RFC 8288), if there is one.',
                "schema": {"type": "string"},
            }
        }


Within = Annotated[Period, Depends(Period.asked)]
