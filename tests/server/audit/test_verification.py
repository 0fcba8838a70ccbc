"""A log is whole, or the first row that is not is named: whatever somebody does with its lines."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.audit.head import HeadSigner
from server.audit.lines import head_line, row_line
from server.audit.row import ROOTED, Entry, Row, Tail, row_hash
from server.audit.verification import Flaw, Verifier, is_anchor
from tests.support.logs import AT_NS, Keys, Log, entry, log_of, verify
from transport.security.keys import SigningKey

ROWS = 23
LOG = log_of(ROWS)
LINES = LOG.lines()
STRANGER = Keys(50)


def rows_at(lines: list[bytes]) -> list[int]:
    """Where the rows are among the lines."""
    return [at for at, line in enumerate(lines) if line.startswith(b'{"seq"')]


ROW_AT = rows_at(LINES)


def number(line: bytes) -> int:
    return int(json.loads(line)["seq"])


def flaw(lines: list[bytes], **how: Any) -> Flaw:
    with pytest.raises(Flaw) as caught:
        verify(lines, **how)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def edited(line: bytes, **fields: object) -> bytes:
    return json.dumps(json.loads(line) | fields, ensure_ascii=False).encode()


# ------------------------------------------------------------------ as it should be
@pytest.mark.parametrize("rows", [0, 1, 4, 5, 6, 300])
def test_a_log_that_nobody_touched_is_whole(rows: int) -> None:
    verified = verify(log_of(rows).lines())
    assert (verified.rows, verified.heads) == (rows, rows // 5 + 1)
    assert verified.root == LOG.keys.root.public
    assert verified.closed_at_ns == AT_NS


def test_a_log_goes_on_under_another_key_of_the_station() -> None:
    log = log_of(7)
    other = Keys(generation=2)
    log.keys = other
    log.add(*map(entry, range(8, 20)))
    assert verify(log.lines()).generation == 2


def test_a_log_goes_on_under_another_root_if_a_row_says_so() -> None:
    log = log_of(6)
    told = {"root": STRANGER.root.public.hex()}
    lines = log.add(Entry.of(AT_NS, "station", "", ROOTED, told)).lines()[:-1]
    log.keys = STRANGER
    log.add(*map(entry, range(8, 20)))
    lines += log.lines()[len(lines) :]
    assert (verify(lines, STRANGER).rows, verify(lines, STRANGER).rooted) == (19, 7)
    assert verify(LINES).rooted == 0
    assert "not under the root key" in str(flaw(lines))


# ------------------------------------------------------------------ rows
@given(st.sets(st.sampled_from(ROW_AT), min_size=1))
def test_rows_taken_out_are_named_by_the_first(gone: set[int]) -> None:
    lines = [line for at, line in enumerate(LINES) if at not in gone]
    found = flaw(lines)
    assert found.row == min(number(LINES[at]) for at in gone)
    assert "missing" in str(found) or "cut off" in str(found)


FIELDS = ["at", "who", "where", "what", "on", "why", "outcome"]


@given(
    st.dictionaries(
        st.sampled_from(ROW_AT), st.tuples(st.sampled_from(FIELDS), st.text(max_size=9)), min_size=1
    )
)
def test_edited_rows_are_named_by_the_first(edits: dict[int, tuple[str, str]]) -> None:
    lines = list(LINES)
    for at, (field, text) in edits.items():
        before = json.loads(lines[at])[field]
        lines[at] = edited(lines[at], **{field: text if text != before else before + "!"})
    assert flaw(lines).row == min(number(LINES[at]) for at in edits)


@given(st.sampled_from(ROW_AT), st.integers(0, 255), st.data())
def test_a_row_with_one_bit_flipped_is_named(at: int, value: int, data: st.DataObject) -> None:
    line = bytearray(LINES[at])
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    lines = [*LINES[:at], bytes(line), *LINES[at + 1 :]]
    found = flaw(lines)
    seq = number(LINES[at])
    # A row whose number was changed stands where another is missed, or again.
    assert found.row == seq or (f"row {seq - 1}" in str(found) and found.row < seq)


@given(st.permutations(ROW_AT))
def test_rows_in_another_order_are_named_by_the_first_place(order: list[int]) -> None:
    if order == ROW_AT:
        return
    lines = list(LINES)
    for place, at in zip(ROW_AT, order, strict=True):
        lines[place] = LINES[at]
    first = next(
        n for n, (place, at) in enumerate(zip(ROW_AT, order, strict=True), 1) if place != at
    )
    assert flaw(lines).row == first


@given(st.sampled_from(ROW_AT), st.integers(1, len(LINES) - 1))
def test_a_row_that_stands_twice_is_named(at: int, place: int) -> None:
    lines = [*LINES[:place], LINES[at], *LINES[place:]]
    seq = number(LINES[at])
    before = [number(line) for line in LINES[:place] if line.startswith(b'{"seq"')]
    due = len(before) + 1
    found = flaw(lines)
    # Put before its own place it takes that of another; put behind, it is there again.
    expected = {seq} if seq < due else {due} if seq > due else {seq, due}
    assert found.row in expected


@given(st.integers(1, len(LINES) - 1))
def test_a_log_cut_off_anywhere_says_behind_which_row(length: int) -> None:
    lines = LINES[:length]
    found = flaw(lines)
    assert found.row == len(rows_at(lines)) + 1
    assert "cut off" in str(found)


OTHERS = Log(STRANGER).add(*(entry(n + 1) for n in range(ROWS))).lines()


@given(st.integers(1, len(LINES) - 1))
def test_the_tail_of_another_station_s_log_fits_nowhere(at: int) -> None:
    lines = [*LINES[:at], *OTHERS[at:]]
    assert flaw(lines).row in {len(rows_at(LINES[:at])), len(rows_at(LINES[:at])) + 1}


@given(st.integers(2, ROWS), st.integers(2, ROWS))
def test_rows_of_the_same_station_in_another_history_fit_nowhere(begin: int, length: int) -> None:
    # As from a copy of the database that went its own way.
    other = log_of(begin - 1)
    other.add(*(Entry.of(AT_NS, "x", "", "unit.add", {"n": n}) for n in range(ROWS)))
    foreign = {row.seq: row_line(row).encode() for row in other.rows[: begin - 1 + length]}
    places = {number(LINES[at]): at for at in ROW_AT}
    lines = list(LINES)
    for seq, line in foreign.items():
        if begin < seq and seq in places:
            lines[places[seq]] = line
    if lines == LINES:
        return
    assert flaw(lines).row == begin + 1


# ------------------------------------------------------------------ hashes made anew
def rehashed(first: int, last: int, **fields: str) -> list[bytes]:
    """The log with the row `first` edited, and all hashes from there to `last` made anew."""
    rows = {row.seq: row for row in LOG.rows}
    made, previous = {}, rows[first - 1].hash
    for seq in range(first, last + 1):
        texts = rows[seq].texts
        if seq == first:
            texts = (texts[0], fields["who"], *texts[2:])
        previous = row_hash(previous, seq, texts)
        made[seq] = row_line(Row(seq, texts, previous)).encode()
    return [made.get(number(x), x) if x.startswith(b'{"seq"') else x for x in LINES]


def test_who_makes_hashes_anew_up_to_a_row_is_found_at_the_next() -> None:
    found = flaw(rehashed(7, 8, who="nobody"))
    assert found.row == 9
    assert "row 8 (or that was edited" in str(found)
    assert "rows up to 5 are signed" in str(found)


def test_who_makes_all_hashes_anew_is_found_at_the_next_signed_head() -> None:
    found = flaw(rehashed(7, ROWS, who="nobody"))
    assert found.row == 6  # it is one of 6 to 10
    assert "row of 6 to 10 was changed" in str(found)


# ------------------------------------------------------------------ keys and heads
def test_a_forged_log_is_refused_whatever_it_says_of_itself() -> None:
    forged = Log(STRANGER).add(*map(entry, range(1, 9)))
    assert "not under the root key" in str(flaw(forged.lines()))
    assert verify(forged.lines(), STRANGER).rows == 8


def test_a_forged_log_that_names_the_true_root_is_refused() -> None:
    forged = Log(STRANGER, every=100)
    forged.tail = Tail.genesis(LOG.keys.root.public)
    lines = forged.add(*map(entry, range(1, 9))).lines()
    lines[0] = LINES[0]
    assert "another station's" in str(flaw(lines))


def test_a_head_of_another_station_is_refused() -> None:
    at = next(at for at, line in enumerate(LINES) if line.startswith(b'{"head":10'))
    foreign = STRANGER.signer.sign(Tail(10, LOG.rows[9].hash), AT_NS)
    found = flaw([*LINES[:at], head_line(foreign).encode(), *LINES[at + 1 :]])
    assert (found.row, str(found)) == (11, "the head of row 10 is another station's")


def test_a_head_whose_key_the_station_has_not_certified_is_refused() -> None:
    thief = HeadSigner(SigningKey(bytes(32)), LOG.keys.certificate, 7, bytes([9]) * 32)
    head = thief.sign(LOG.tail, AT_NS, "closing")
    assert "wrong signature" in str(flaw([*LINES[:-1], head_line(head).encode()]))


def test_a_head_under_an_older_key_of_the_station_is_refused() -> None:
    lines = list(LINES)
    newer = Keys(generation=2).signer.sign(Tail(20, LOG.rows[19].hash), AT_NS)
    at = next(at for at, line in enumerate(LINES) if line.startswith(b'{"head":20'))
    lines[at] = head_line(newer).encode()
    assert "an older key" in str(flaw(lines))


@given(st.sampled_from([at for at in range(len(LINES)) if at not in ROW_AT]), st.data())
def test_a_head_or_the_first_line_with_one_bit_flipped_is_found(
    at: int, data: st.DataObject
) -> None:
    line = bytearray(LINES[at])
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    flaw([*LINES[:at], bytes(line), *LINES[at + 1 :]])


def test_what_stands_behind_the_closing_head_is_refused() -> None:
    assert "behind the closing head" in str(flaw([*LINES, LINES[-1]]))
    found = flaw([*LINES[:-1], LINES[6], LINES[-1]])
    assert (found.row, str(found)) == (6, "row 6 stands before the signed head of row 5")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 50_000,
        b'{"seq":1}',
        b'{"loa_audit":2,"root":"00"}',
        b'{"loa_audit":true,"root":"' + b"00" * 32 + b'"}',
        LINES[1].replace(b'"seq":1', b'"seq":1.0'),
        LINES[1].replace(b'"seq":1', b'"seq":1,"seq":1'),
        LINES[1].replace(b'"seq":1', b'"seq":NaN'),
        LINES[1].replace(b'"seq":1', b'"seq":' + b"9" * 5000),
        LINES[1].replace(b'"who":"Lan"', b'"who":"\\ud800"'),
        LINES[1].replace(b'"who":"Lan"', b'"who":null'),
        LINES[1].replace(b'"hash":"', b'"hash":"00'),
    ],
)
def test_a_line_that_no_station_writes_is_named(line: bytes) -> None:
    found = flaw([LINES[0], line, *LINES[1:]])
    assert (found.row, "line 2" in str(found)) == (1, True)


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(lambda plain: json.dumps(plain).encode())
)
def test_nothing_but_a_flaw_is_ever_raised(line: bytes) -> None:
    with pytest.raises(Flaw):
        verify([line])
    with pytest.raises(Flaw):
        verify([*LINES[:4], line, *LINES[4:]])


# ------------------------------------------------------------------ anchors
def test_anchors_that_agree_are_counted() -> None:
    heads = [*LOG.heads.values(), LOG.heads[5]]
    assert verify(LINES, anchors=heads).anchors == len(heads)


def test_a_log_cut_off_at_a_head_and_closed_anew_is_found_by_an_anchor() -> None:
    shorter = log_of(10).lines()
    assert verify(shorter).rows == 10  # the station itself could have closed it so
    found = flaw(shorter, anchors=[LOG.heads[20], LOG.heads[5]])
    assert found.row == 11
    assert "rows 11 to 20 were cut off" in str(found)


def test_a_history_that_the_station_s_own_key_signed_anew_is_found_by_an_anchor() -> None:
    other = log_of(7)
    other.add(Entry.of(AT_NS, "x", "", "unit.add")).add(*map(entry, range(9, ROWS + 1)))
    assert verify(other.lines()).rows == ROWS
    found = flaw(other.lines(), anchors=[LOG.heads[10], LOG.heads[5]])
    assert "was changed and all hashes made anew: the anchor of row 10" in str(found)


def test_an_anchor_is_a_head_that_the_station_signed() -> None:
    head = LOG.heads[5]
    assert is_anchor(head, LOG.keys.trusted)
    assert not is_anchor(head, STRANGER.trusted)
    assert not is_anchor(STRANGER.signer.sign(head.tail, 1), LOG.keys.trusted)
    wrong = type(head)(
        6,
        *[getattr(head, n) for n in ("hash", "at_ns", "kind", "station", "delegate", "signature")],
    )
    assert not is_anchor(wrong, LOG.keys.trusted)


def test_rows_are_counted_as_they_come() -> None:
    verifier = Verifier(LOG.keys.trusted)
    seen = []
    for line in LINES:
        verifier.feed(line)
        seen.append(verifier.rows)
    assert seen[-1] == ROWS
    assert seen == sorted(seen)
