"""A log whose front was cut off: by the station, or the first row that is missing is named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.audit.head import HeadSigner
from server.audit.lines import head_line
from server.audit.row import RESTORED, ROOTED, Entry, Tail
from server.audit.verification import Flaw
from tests.support.logs import AT_NS, Keys, entry, log_of, verify
from transport.security.keys import SigningKey

ROWS, CUT = 23, 10
WHOLE = log_of(ROWS)
HEADS = dict(WHOLE.heads)
LOG = log_of(ROWS).cut(CUT)
LINES = LOG.lines()
ROW_AT = [at for at, line in enumerate(LINES) if line.startswith(b'{"seq"')]
STRANGER = Keys(50)


def flaw(lines: list[bytes], **how: Any) -> Flaw:
    with pytest.raises(Flaw) as caught:
        verify(lines, **how)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def number(line: bytes) -> int:
    return int(json.loads(line)["seq"])


def with_beginning(signer: HeadSigner, tail: Tail, kind: Any = "cut") -> list[bytes]:
    """The log with another head where it begins."""
    return [LINES[0], head_line(signer.sign(tail, AT_NS, kind)).encode(), *LINES[2:]]


# ------------------------------------------------------------------ as the station cuts it
@pytest.mark.parametrize("up_to", [1, 5, 7, 22, 23])
def test_a_log_that_the_station_cut_off_is_whole_from_there_on(up_to: int) -> None:
    verified = verify(log_of(ROWS).cut(up_to).lines())
    assert verified.cut is not None
    assert (verified.cut.seq, verified.rows) == (up_to, ROWS + 1 - up_to)
    assert verify(WHOLE.lines()).cut is None


def test_it_may_be_cut_off_under_a_younger_key_than_that_of_its_first_heads() -> None:
    log = log_of(ROWS)
    log.keys = Keys(generation=5)
    assert verify(log.cut(CUT).lines()).generation == 5


def test_it_may_be_cut_off_before_or_after_it_has_another_root() -> None:
    log = log_of(12)
    log.add(Entry.of(AT_NS, "station", "", ROOTED, {"root": STRANGER.root.public.hex()}))
    log.keys = STRANGER
    log.add(*map(entry, range(14, 20)))
    assert verify(log.cut(CUT).lines(), STRANGER).rows == 10
    log.cut(15)
    log.root = STRANGER.root.public
    assert verify(log.lines(), STRANGER).rows == 6
    log.root = LOG.root  # and whoever says that it was the first one's still
    assert "another station's" in str(flaw(log.lines(), keys=STRANGER))


# ------------------------------------------------------------------ as somebody else does
@given(st.integers(1, ROWS))
def test_rows_deleted_from_the_front_without_a_signed_cut_are_missed(gone: int) -> None:
    lines = WHOLE.lines()
    left = [x for x in lines if not x.startswith(b'{"seq"') or number(x) > gone]
    found = flaw(left)
    assert (found.row, "row 1 is missing" in str(found)) == (1, True)
    heads_too = [
        line for line in left if not line.startswith(b'{"head"') or json.loads(line)["head"] > gone
    ]
    assert flaw(heads_too).row == 1


@given(st.integers(CUT + 1, ROWS))
def test_rows_deleted_behind_the_cut_are_missed(gone: int) -> None:
    lines = [x for x in LINES if not x.startswith(b'{"seq"') or number(x) > gone]
    found = flaw(lines)
    assert (found.row, f"row {CUT + 1} is missing" in str(found)) == (CUT + 1, True)


@given(st.sampled_from(ROW_AT))
def test_the_first_row_taken_out_or_edited_behind_the_cut_is_named(at: int) -> None:
    assert flaw([*LINES[:at], *LINES[at + 1 :]]).row == number(LINES[at])
    edited = json.dumps(json.loads(LINES[at]) | {"who": "nobody"}).encode()
    found = flaw([*LINES[:at], edited, *LINES[at + 1 :]])
    assert found.row == number(LINES[at])
    assert ("where the log was cut off" in str(found)) == (found.row == CUT + 1)


@pytest.mark.parametrize("kind", ["kept", "closing"])
def test_a_head_that_says_something_else_cuts_nothing_off(kind: str) -> None:
    lines = with_beginning(LOG.keys.signer, HEADS[CUT].tail, kind)
    assert "row 1 is missing" in str(flaw(lines))
    # The head of the log as it was, called a cut: its signature does not say so.
    called = head_line(HEADS[CUT]).replace('"kept"', '"cut"').encode()
    found = flaw([LINES[0], called, *LINES[2:]])
    assert (found.row, "has a wrong signature" in str(found)) == (1, True)


def test_what_others_have_signed_cuts_nothing_off() -> None:
    tail = HEADS[CUT].tail
    assert "is another station's" in str(flaw(with_beginning(STRANGER.signer, tail)))
    thief = HeadSigner(SigningKey(bytes(32)), LOG.keys.certificate, 7, bytes([9]) * 32)
    assert "has a wrong signature" in str(flaw(with_beginning(thief, tail)))


@pytest.mark.parametrize("seq", [0, CUT - 1, CUT + 1])
def test_a_cut_elsewhere_does_not_fit(seq: int) -> None:
    flaw(with_beginning(LOG.keys.signer, Tail(seq, HEADS[CUT].hash)))


@given(st.integers(2, len(LINES)))
def test_a_cut_in_the_middle_is_refused(at: int) -> None:
    assert flaw([*LINES[:at], LINES[1], *LINES[at:]]).row >= CUT + 1


@given(st.data())
def test_a_cut_with_one_bit_flipped_is_found(data: st.DataObject) -> None:
    line = bytearray(LINES[1])
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    flaw([LINES[0], bytes(line), *LINES[2:]])


# ------------------------------------------------------------------ anchors
def test_anchors_of_rows_that_were_cut_off_are_counted_apart() -> None:
    verified = verify(LINES, anchors=HEADS.values())
    assert (verified.anchors, verified.anchors_cut) == (2, 2)


def test_an_anchor_of_the_very_row_shows_whether_these_rows_were_cut_off() -> None:
    other = log_of(CUT - 1).add(entry(99)).add(*map(entry, range(11, ROWS + 1)))
    lines = other.cut(CUT).lines()
    assert verify(lines).rows == ROWS + 1 - CUT
    found = flaw(lines, anchors=[HEADS[CUT]])
    assert (found.row, "are not those that were anchored" in str(found)) == (CUT, True)


def restored(rows: int) -> list[bytes]:
    """A back-up of the first 12 rows is put back, and so many are written then."""
    told = {"made_at": AT_NS // 1_000_000_000, "generation": 10_001}
    log = log_of(12).add(Entry.of(AT_NS + 1000, "account loa", "", RESTORED, told))
    return log.add(*(Entry.of(AT_NS + 2000 + n, "x", "", "unit.add") for n in range(rows))).lines()


@pytest.mark.parametrize("rows", [0, 3, 30])
def test_what_a_back_up_took_off_that_was_put_back_is_named_as_such(rows: int) -> None:
    lines = restored(rows)
    assert verify(lines, anchors=[HEADS[10]]).anchors == 1
    found = flaw(lines, anchors=[HEADS[10], HEADS[15], HEADS[20]])
    furthest = 15 if rows >= 2 else 20
    assert found.row == 13
    assert f"rows 13 to {furthest} of the log as it was anchored were taken off" in str(found)
    assert "row 13 says that a back-up of 2026-09-21T" in str(found)


def test_a_restoration_is_no_excuse_for_what_was_anchored_after_it() -> None:
    lines = restored(30)
    later = LOG.keys.signer.sign(HEADS[15].tail, AT_NS + 5000)
    assert "was changed and all hashes made anew" in str(flaw(lines, anchors=[later]))
    before = log_of(9).add(entry(99)).add(*map(entry, range(11, 13)))
    before.add(Entry.of(AT_NS + 1000, "account loa", "", RESTORED, {"made_at": "x"}))
    found = flaw(before.lines(), anchors=[HEADS[10], HEADS[15]])
    assert "the anchor of row 10 has another" in str(found)
