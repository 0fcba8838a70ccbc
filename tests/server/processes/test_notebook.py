"""The record that outlives control: written whole or not believed."""

import os
from collections.abc import Iterator

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
@given(st.lists(st.binary(), min_size=1))
def test_the_newest_record_is_read_back(records: list[bytes]) -> None:
    memory = create_notebook()
    try:
        notebook = Notebook(memory)
        for serial, record in enumerate(records, 1):
            notebook.write(record)
            assert Notebook(memory).read() == (serial, record)
            assert notebook.serial() == serial
    finally:
        os.close(memory)


def test_an_empty_notebook_says_nothing(memory: int) -> None:
    assert Notebook(memory).read() == (0, b"")
    assert Notebook(memory).serial() == 0


def test_who_opens_it_again_goes_on_writing(memory: int) -> None:
    for number in range(5):
        Notebook(memory).write(bytes([number]))
    assert Notebook(memory).read() == (5, b"\x04")


class KilledError(Exception):
    """Stands for the process's death."""


def write_and_die(memory: int, record: bytes, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
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
    Notebook(memory).write(b"first" + b"x" * 500)
    Notebook(memory).write(b"second" + b"y" * 1000)
    write_and_die(memory, b"third" + b"z" * 2000, after, monkeypatch)
    assert Notebook(memory).read() == (2, b"second" + b"y" * 1000)


def test_after_a_torn_record_the_next_one_counts(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Notebook(memory).write(b"first")
    write_and_die(memory, b"second", 17, monkeypatch)
    Notebook(memory).write(b"third")
    assert Notebook(memory).read() == (2, b"third")


def test_a_first_record_torn_is_no_record(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_and_die(memory, b"first", 18, monkeypatch)
    assert Notebook(memory).read() == (0, b"")


@settings(max_examples=100)
@given(at=st.integers(0, 50), flip=st.integers(1, 255))
def test_one_wrong_byte_and_a_record_is_not_believed(at: int, flip: int) -> None:
    memory = create_notebook()
    try:
        Notebook(memory).write(b"three programmes, and all who listen to them")
        first = PAGE_BYTES  # the first record has serial 1
        (there,) = os.pread(memory, 1, first + at)
        os.pwrite(memory, bytes((there ^ flip,)), first + at)
        assert Notebook(memory).read() == (0, b"")
    finally:
        os.close(memory)


def test_a_record_too_long_is_refused_and_the_old_one_stays(memory: int) -> None:
    notebook = Notebook(memory)
    notebook.write(b"old")
    with pytest.raises(ValueError, match="does not fit"):
        notebook.write(bytes(PAGE_BYTES))
    assert notebook.read() == (1, b"old")


def test_what_is_being_written_has_a_serial_and_is_not_read_yet(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook(memory)
    notebook.write(b"first")
    write_and_die(memory, b"second", 17, monkeypatch)
    assert (notebook.serial(), notebook.read()) == (2, (1, b"first"))
