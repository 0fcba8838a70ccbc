"""Server-sent events, written and read; what others may write is read as the standard has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.changes.wire import (
    KEEP_ALIVE,
    Event,
    NotEventsError,
    read_events,
    written,
    written_mark,
    written_pause,
)

LINES = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), min_size=1)


@given(
    st.lists(st.builds(Event, LINES, LINES, LINES), max_size=4),
    st.integers(1, 7),
)
def test_what_is_written_is_read_wherever_it_is_cut(events: list[Event], size: int) -> None:
    events = [e for e in events if not (e.id + e.kind + e.data).startswith(" ")]
    data = (written_pause(2000) + KEEP_ALIVE.join(map(written, events))).encode()
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(read_events(parts)) == events


def test_a_mark_alone_is_no_event_and_counts_for_the_next() -> None:
    text = written_mark("1-5") + "data: x\n\n"
    assert list(read_events([text.encode()])) == [Event("1-5", "message", "x")]


def test_other_senders_may_write_more_and_in_other_ways() -> None:
    text = (
        ":hello\nevent:a\ndata:1\r\ndata:  2\nfield\nid:\nretry: x\n\nevent: b\n\ndata\n\nevent: c"
    )
    assert list(read_events([text.encode()])) == [Event("", "a", "1\n 2"), Event("", "message", "")]


def test_rubbish_ends_it() -> None:
    with pytest.raises(UnicodeDecodeError):
        list(read_events([b"data: \xff\n\n"]))
    with pytest.raises(NotEventsError):
        list(read_events([b"x" * 70_000] * 20))
    with pytest.raises(NotEventsError):
        list(read_events([b"x" * (2 << 20) + b"\n"]))
