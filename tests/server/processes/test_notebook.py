"""The record that outlives control: written whole or not believed."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.processes.notebook import PAGE_BYTES, Notebook, create_notebook


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_notebook()
    yield descriptor
    os.close(descriptor)


@settings(max_examples=50)
@given(st.lists(st.dictionaries(st.text(), st.integers(0, 9)) | st.lists(st.text()), min_size=1))
def test_the_newest_record_is_read_back(records: list[Any]) -> None:
    memory = create_notebook()
    try:
        notebook = Notebook(memory)
        for record in records:
            notebook.write(record)
            assert Notebook(memory).read() == record
    finally:
        os.close(memory)


def test_an_empty_notebook_says_nothing(memory: int) -> None:
    assert Notebook(memory).read() is None


def test_who_opens_it_again_goes_on_writing(memory: int) -> None:
    for number in range(5):
        Notebook(memory).write([number])
    assert Notebook(memory).read() == [4]


class KilledError(Exception):
    """Stands for the process's death."""


def write_and_die(memory: int, record: Any, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write as far as `after` bytes and no further."""
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        real(descriptor, data[:after], at)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(KilledError):
            Notebook(memory).write(record)


@pytest.mark.parametrize("after", [0, 1, 8, 15, 16, 17, 1000, 2018])
def test_a_record_torn_anywhere_is_ignored_and_the_one_before_it_counts(
    memory: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Notebook(memory).write(["first", "x" * 500])
    Notebook(memory).write(["second", "y" * 1000])
    write_and_die(memory, ["third", "z" * 2000], after, monkeypatch)
    assert Notebook(memory).read()[0] == "second"


def test_after_a_torn_record_the_next_one_counts(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Notebook(memory).write(["first"])
    write_and_die(memory, ["second"], 17, monkeypatch)
    Notebook(memory).write(["third"])
    assert Notebook(memory).read() == ["third"]


def test_a_first_record_torn_is_no_record(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_and_die(memory, ["first"], 18, monkeypatch)
    assert Notebook(memory).read() is None


@settings(max_examples=100)
@given(at=st.integers(0, 50), flip=st.integers(1, 255))
def test_one_wrong_byte_and_a_record_is_not_believed(at: int, flip: int) -> None:
    memory = create_notebook()
    try:
        Notebook(memory).write({"programmes": ["live-1", "live-2", "live-3"], "count": 3})
        first = PAGE_BYTES  # the first record has serial 1
        (there,) = os.pread(memory, 1, first + at)
        os.pwrite(memory, bytes((there ^ flip,)), first + at)
        assert Notebook(memory).read() is None
    finally:
        os.close(memory)


def test_a_record_too_long_is_refused_and_the_old_one_stays(memory: int) -> None:
    notebook = Notebook(memory)
    notebook.write(["old"])
    with pytest.raises(ValueError, match="does not fit"):
        notebook.write([bytes(PAGE_BYTES)])
    assert notebook.read() == ["old"]


def test_twenty_thousand_loudspeakers_fit(memory: int) -> None:
    rows = [[f"{n:0>64}", "192.168.100.100", 50_000, True, 1 << 62] for n in range(20_000)]
    Notebook(memory).write({"speakers": rows})
    assert Notebook(memory).read() == {"speakers": rows}
