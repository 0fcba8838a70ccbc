"""What a row may hold, whatever strangers choose of it; and what its hash is of."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.audit.details import MAX_DETAILS_BYTES, canonical, clean
from server.audit.row import Entry, Row, Tail, genesis_hash, instant, row_hash

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.frozensets(st.text())
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=40,
)
TEXTS = st.text(st.characters(), max_size=400)  # lone surrogates too
HOSTILE = {
    "control characters": "a\x00b\x1b[31mc\r\nd\x7f\x9b",
    "half a character": "\ud800x\udfff",
    "turned round": "\u202eevil\u2066",
    "huge": "x" * 1_000_000,
    "huge and hidden": "\u200b" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_one_line_of_a_length_everywhere(text: str) -> None:
    entry = Entry.of(1, text, text, text, {text: text, "list": [text] * 3}, text, text)
    assert sum(map(len, entry.texts())) < 20_000
    for part in entry.texts():
        assert part.isprintable()
        part.encode()
    assert len(entry.on.encode()) <= MAX_DETAILS_BYTES
    json.loads(entry.on)


@given(TEXTS, TEXTS, TEXTS, st.dictionaries(TEXTS, ANYTHING), TEXTS, st.integers(0, 1 << 62))
def test_any_texts_make_a_row(
    who: str, where: str, what: str, on: dict[str, object], why: str, at_ns: int
) -> None:
    entry = Entry.of(at_ns, who, where, what, on, why, who)
    assert all(part.isprintable() for part in entry.texts())
    assert len(entry.on.encode()) <= MAX_DETAILS_BYTES
    assert (
        json.dumps(json.loads(entry.on), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        == entry.on
    )
    Tail.genesis(bytes(32)).append(entry)


def test_ordinary_texts_stay_as_they_are() -> None:
    told = {"b": "Thôn 3, chợ", "a": [1, 2.5, None, True], "c": {"d": ()}}
    assert canonical(told) == '{"a":[1,2.5,null,true],"b":"Thôn 3, chợ","c":{"d":[]}}'
    assert clean("chợ Tân Phú 🎵") == "chợ Tân Phú 🎵"


def test_what_is_left_out_can_be_shown_by_its_hash() -> None:
    names = [f"speaker-{n}" for n in range(10_000)]
    told = json.loads(canonical({"count": 10_000, "speakers": names}))
    assert told["count"] == 10_000
    assert told["speakers"] == names[:64]
    assert len(told["whole"]) == 64
    names[9_999] = "another"
    assert json.loads(canonical({"count": 10_000, "speakers": names}))["whole"] != told["whole"]


@pytest.mark.parametrize("depth", [7, 900])
def test_what_is_deep_is_cut(depth: int) -> None:
    deep: object = "x"
    for _ in range(depth):
        deep = [deep]
    assert "[deeper]" in canonical({"deep": deep})


def test_numbers_that_another_language_would_round_are_texts() -> None:
    assert canonical({"n": 1 << 53, "m": (1 << 53) - 1}) == (
        '{"m":9007199254740991,"n":"9007199254740992"}'
    )
    assert canonical({"n": float("nan")}) == '{"n":"nan"}'


@pytest.mark.parametrize(
    "wrong",
    [
        {"who": "a\nb"},
        {"why": "x" * 10_000},
        {"on": '{"a":"\x1b"}'},
        {"at_ns": -1},
        {"at_ns": 1 << 63},
    ],
)
def test_a_row_cannot_be_made_of_what_it_may_not_hold(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a row's"):
        Entry(**({"at_ns": 1, "who": "", "where": "", "what": "x"} | wrong))  # type: ignore[arg-type]


@given(st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1))
def test_instants_are_alike_only_if_they_are_the_same(one: int, other: int) -> None:
    assert (instant(one) == instant(other)) == (one == other)
    assert (instant(one) < instant(other)) == (one < other)


def test_an_instant_is_written_as_in_rfc_3339() -> None:
    assert instant(0) == "1970-01-01T00:00:00.000000000Z"
    assert instant(1_790_000_000_000_000_007) == "2026-09-21T14:13:20.000000007Z"


PARTS = ("a", "b", "c", "d", "e", "f", "g")


def test_a_hash_is_of_every_part_and_of_where_it_ends() -> None:
    hashes = {row_hash(bytes(32), 1, PARTS), row_hash(bytes(31) + b"x", 1, PARTS)}
    hashes |= {row_hash(bytes(32), 2, PARTS)}
    for at in range(7):
        hashes.add(row_hash(bytes(32), 1, (*PARTS[:at], "x", *PARTS[at + 1 :])))
    hashes.add(row_hash(bytes(32), 1, ("ab", "", *PARTS[2:])))
    hashes.add(row_hash(bytes(32), 1, ("", "ab", *PARTS[2:])))
    assert len(hashes) == 12
    assert genesis_hash(bytes(32)) != genesis_hash(bytes(31) + b"x")


def test_a_row_follows_the_one_before() -> None:
    entry = Entry.of(1, "Lan", "", "unit.add")
    first = Tail.genesis(bytes(32)).append(entry)
    assert first == Row(1, entry.texts(), row_hash(genesis_hash(bytes(32)), 1, entry.texts()))
    second = Tail.of(first).append(entry)
    assert (second.seq, second.hash) == (2, row_hash(first.hash, 2, entry.texts()))
