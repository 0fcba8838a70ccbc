from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import trace as trace_module
from bench.trace import Trace, TraceError, load_trace, save_trace

MS = 1_000_000


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.trace"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_line_is_a_packet_lost_or_a_delay_in_ms(tmp_path: Path) -> None:
    path = written(tmp_path, "# of a Tuesday\n12\n\nlost  # in the lift\n 0.000001 \r\n40.5\n")
    assert load_trace(path).fates == (12 * MS, None, 1, 40_500_000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        *[("12\nLOST\n", 2), ("# x\n\n-1\n", 3), ("nan\n", 1), ("1e3\n", 1), ("1_0\n", 1)],
        *[("12 ms\n", 1), ("5\n60000.1\n", 2), ("5,5\n", 1), ("١٢\n", 1)],
        ("7\nx" + "y" * 500, 2),
    ],
)
def test_an_error_names_the_line_and_what_to_do(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(TraceError, match=f"some.trace, line {line}: ") as caught:
        load_trace(written(tmp_path, text))
    said = str(caught.value)
    assert "write `lost`" in said
    assert len(said.splitlines()) == 1
    assert len(said) < len(str(tmp_path)) + 150


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_a_trace_without_packets_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(TraceError, match="no packets: give a line a packet"):
        load_trace(written(tmp_path, text))


def test_what_is_no_text_and_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="this is no text"):
        load_trace(written(tmp_path, b"12\n\xff\xfe\n"))
    with pytest.raises(TraceError, match=r"gone\.trace: No such file"):
        load_trace(tmp_path / "gone.trace")
    with pytest.raises(TraceError, match="Is a directory"):
        load_trace(tmp_path)


def test_a_trace_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "MAX_PACKETS", 2)
    with pytest.raises(TraceError, match="line 3: more than 2 packets"):
        load_trace(written(tmp_path, "1\n2\n3\n"))


def test_loss_is_the_share_of_the_lost() -> None:
    assert Trace((None, 5, None, 0)).loss == 0.5
    assert Trace((1,)).loss == 0


@pytest.mark.parametrize("fates", [(), (-1,), (60_001 * MS,), (5, None, -3)])
def test_what_is_no_trace_is_refused(fates: tuple[int | None, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a trace has|a delay in a trace"):
        Trace(fates)
    with pytest.raises(ValueError, match=r"a trace has|a delay in a trace"):
        save_trace(tmp_path / "none", fates)
    assert not (tmp_path / "none").exists()


fate_lists = st.lists(st.none() | st.integers(0, 60_000 * MS), min_size=1, max_size=50)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fate_lists, st.text(max_size=40))
def test_what_is_saved_is_loaded_to_the_nanosecond(
    tmp_path: Path, fates: list[int | None], about: str
) -> None:
    path = tmp_path / "one.trace"
    save_trace(path, fates, about)
    assert load_trace(path).fates == tuple(fates)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_file_is_a_trace_or_one_line(tmp_path: Path, content: bytes) -> None:
    said = ""
    try:
        assert load_trace(written(tmp_path, content)).fates
    except TraceError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


def test_a_trace_from_any_editor_is_read(tmp_path: Path) -> None:
    trace = Trace((1_500_000, None, 2_000_000))
    for text in (b"\xef\xbb\xbf1.5\r\nlost # outage\r\n\r\n2", b" 1.5\nlost\n# end\n2\n"):
        assert load_trace(written(tmp_path, text)) == trace
