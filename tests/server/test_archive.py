"""A back-up's file: whole or not made, checked to the last byte, and nothing put elsewhere."""

import io
import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server import archive
from server.archive import About, ArchiveError, Writer, opened, write

ABOUT = About("Tân Phú", "0003", "1.0", 1_700_000_000)
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a back-up shall be."""
    return tmp_path / "station.tar"


def fill(writer: Writer) -> None:
    writer.add_lines("tables/units", [b"[1]\n", b"[2]\n"])
    writer.add_lines("tables/empty", [])
    with Path(__file__).open("rb") as file:
        writer.add_file("folder/keys/root.pem", file)
    writer.finish(ABOUT)


@pytest.fixture
def made(file: Path) -> Path:
    write(file, fill)
    return file


def refused(file: Path) -> str:
    with pytest.raises(ArchiveError) as error, opened(file):
        pass
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert str(file) in line
    return line


# ------------------------------------------------------------------ writing
def test_what_was_added_comes_back(made: Path, tmp_path: Path) -> None:
    with opened(made) as found:
        assert found.about == ABOUT
        tables = {name: list(lines) for name, lines in found.tables()}
        found.unpack(tmp_path / "folder")
    assert tables == {"units": [b"[1]\n", b"[2]\n"], "empty": []}
    (place,) = [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]
    assert place == tmp_path / "folder" / "keys" / "root.pem"
    assert place.read_text() == Path(__file__).read_text()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


def test_nobody_else_may_read_it(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert list(made.parent.iterdir()) == [made]


def test_a_file_that_is_there_is_left_alone(file: Path) -> None:
    file.write_text("mine")
    with pytest.raises(ArchiveError, match="exists already"):
        write(file, fill)
    assert file.read_text() == "mine"


def test_what_fails_halfway_makes_nothing(file: Path) -> None:
    def fail(writer: Writer) -> None:
        writer.add_lines("tables/units", [b"[1]\n"])
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write(file, fail)
    assert list(file.parent.iterdir()) == []


def test_a_file_that_shrinks_while_it_is_read_makes_nothing(file: Path, tmp_path: Path) -> None:
    shrinking = tmp_path / "shrinking"
    shrinking.write_bytes(b"x" * 100)

    class Shrinking(io.FileIO):
        def read(self, _: int | None = -1) -> bytes:  # type: ignore[explicit-override]
            return b""

    def shrink(writer: Writer) -> None:
        with Shrinking(shrinking) as content:
            writer.add_file("folder/x", content)
        writer.finish(ABOUT)

    with pytest.raises(ArchiveError, match="nothing was made"):
        write(file, shrink)
    assert list(file.parent.iterdir()) == [shrinking]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="No such file"):
        write(tmp_path / "nowhere" / "file", fill)


# ------------------------------------------------------------------ what is refused
def members(file: Path) -> Members:
    with tarfile.open(file) as tar:
        found = []
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            found.append((member, content.read()))
        return found


def put(file: Path, changed: Members) -> None:
    with tarfile.open(file, "w") as tar:
        for info, data in changed:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def told(change: Callable[[dict[str, object]], object]) -> Callable[[Members], Members]:
    """Another manifest, as somebody would write it who knows how."""

    def changed(found: Members) -> Members:
        info, text = found[-1]
        plain = json.loads(text)
        change(plain)
        plain["sha256"] = archive._digest(plain)
        return [*found[:-1], (info, json.dumps(plain).encode())]

    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: found[:-1], "no manifest"),
        (lambda found: found[1:], "has not what its manifest says"),
        (lambda found: [(found[0][0], b"[3]\n[2]\n"), *found[1:]], "tables/units is not what"),
        (lambda found: [found[0], *found], "no place in a back-up"),
        (lambda found: [*found[:-1], (found[-1][0], b"{")], "nonsense"),
        (lambda found: [*found[:-1], (found[-1][0], b"[]")], "another program's"),
        (lambda found: [*found[:-1], (found[-1][0], found[-1][1].replace(b"3", b"4"))], "changed"),
        (told(lambda plain: plain.update(format=2)), "newer Loa"),
        (told(lambda plain: plain.update(station=None)), "nonsense"),
        (told(lambda plain: plain.update(made_at="now")), "nonsense"),
        (told(lambda plain: plain.update(members=[])), "has not what its manifest says"),
        (told(lambda plain: plain.pop("members")), "has not what its manifest says"),
    ],
)
def test_what_somebody_changed_is_refused(
    made: Path, change: Callable[[Members], Members], says: str
) -> None:
    put(made, change(members(made)))
    assert says in refused(made)


@pytest.mark.parametrize("name", ["../out", "/etc/out", "folder/../../out", "folder//x", "./x"])
def test_a_member_that_leads_elsewhere_is_refused(made: Path, name: str) -> None:
    put(made, [(tarfile.TarInfo(name), b""), *members(made)])
    assert "no place in a back-up" in refused(made)


def test_a_link_is_refused(made: Path) -> None:
    link = tarfile.TarInfo("folder/x")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    put(made, [(link, b""), *members(made)])
    assert "no place in a back-up" in refused(made)


def test_what_is_no_back_up_at_all(file: Path) -> None:
    refused(file)
    file.write_text("Dear diary, " * 1000)
    assert "no back-up" in refused(file)
    file.write_bytes(b"")
    refused(file)


def test_wherever_it_is_cut_short_it_is_refused(made: Path) -> None:
    whole = made.read_bytes()
    manifest = whole.rindex(b'"members"')
    for length in (*range(0, manifest, 509), manifest):
        made.write_bytes(whole[:length])
        refused(made)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0), flip=st.integers(1, 255))
def test_any_byte_that_is_changed_is_found_or_is_of_no_content(
    made: Path, tmp_path: Path, at: int, flip: int
) -> None:
    whole = bytearray(made.read_bytes())
    whole[at % len(whole)] ^= flip
    file = tmp_path / "changed.tar"
    file.write_bytes(whole)
    try:
        with opened(file) as found:
            tables = {name: list(lines) for name, lines in found.tables()}
            names = [name for name in found._names if name.startswith(archive.FOLDER)]
            assert found.about == ABOUT
    except ArchiveError:
        return
    assert tables == {"units": [b"[1]\n", b"[2]\n"], "empty": []}
    assert names == ["folder/keys/root.pem"]
