"""Where a code comes from."""

import io
from pathlib import Path

import pytest

from endpoints.station.given import code_given, is_elsewhere
from transport.control.address import StationAddress
from transport.security.enrolment import EnrolmentCode

CODE = EnrolmentCode(StationAddress("127.0.0.1", 7460), bytes(16), bytes(10))


def test_it_may_be_the_word_itself() -> None:
    assert code_given(CODE.text, None) == CODE
    assert not is_elsewhere(CODE.text)


def test_it_may_be_the_first_line_of_standard_input() -> None:
    assert code_given("-", io.StringIO(f" {CODE.text} \r\nmore\n")) == CODE
    assert is_elsewhere("-")


def test_it_may_be_the_first_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "code"
    path.write_text(f"\ufeff{CODE.text}\n", encoding="utf-8")
    assert code_given(str(path), None) == CODE
    assert is_elsewhere(str(path))


@pytest.mark.parametrize("contents", [b"", b"\n", b"\xff\xfe", b"x" * 5000])
def test_what_is_none_is_told_in_one_line_that_quotes_nothing(
    tmp_path: Path, contents: bytes
) -> None:
    path = tmp_path / "code"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"code") as refused:
        code_given(str(path), None)
    assert len(str(refused.value)) < 200 + len(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("standard_input", [None, io.StringIO()])
def test_without_standard_input_there_is_none(standard_input: io.StringIO | None) -> None:
    with pytest.raises(ValueError, match="no code in standard input"):
        code_given("-", standard_input)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"cannot read {tmp_path} for a code: Is a directory"):
        code_given(str(tmp_path), None)


@pytest.mark.parametrize("text", ["abc", "x" * 300, "x" * 100_000, "a\0b"])
def test_a_word_that_is_no_code_and_no_file_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"code"):
        code_given(text, None)
