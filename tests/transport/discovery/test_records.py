"""Names and texts as DNS-SD carries them."""

import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.control.address import StationAddress
from transport.discovery.records import (
    FoundSpeaker,
    found_speaker,
    from_txt,
    instance_label,
    speaker_txt,
    station_name,
    station_txt,
    tag_of,
    to_txt,
)
from transport.security.keys import shown_fingerprint


@given(st.text())
def test_any_name_becomes_one_label_that_fits(name: str) -> None:
    label = instance_label(name, tag_of(name))
    assert 0 < len(label.encode()) <= 63
    assert "." not in label
    assert label.isprintable()


def test_a_long_name_is_cut_between_characters() -> None:
    assert instance_label("ồ" * 64) == "ồ" * 18


def test_the_tag_depends_on_each_part_and_on_where_it_ends() -> None:
    tags = {tag_of("a", "b"), tag_of("ab", ""), tag_of("b", "a"), tag_of("ab")}
    assert len(tags) == 4


@given(
    st.dictionaries(
        st.sampled_from(["name", "station", "future"]),
        st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50),
    )
)
def test_pairs_survive_txt(pairs: dict[str, str]) -> None:
    assert from_txt(to_txt(pairs)) == {"v": "1", **pairs}


@given(st.binary(max_size=600))
def test_txt_data_is_pairs_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        assert from_txt(data)["v"] == "1"


@pytest.mark.parametrize(
    ("data", "pairs"),
    [
        (b"\x03v=1\x06name=a\x06name=b", {"v": "1", "name": "a"}),
        (b"\x03V=1\x06NAME=A", {"v": "1", "name": "A"}),
        (b"\x03v=1\x00\x04flag", {"v": "1", "": "", "flag": ""}),
    ],
    ids=["the first of two", "any case", "no value"],
)
def test_txt_is_read_as_rfc_6763_section_6_says(data: bytes, pairs: dict[str, str]) -> None:
    assert from_txt(data) == pairs


@pytest.mark.parametrize("data", [b"", b"\x03v=2", b"\x06name=a", b"\x03v=1\x01\xff"])
def test_another_version_is_not_read(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_txt(data)


def test_a_value_too_long_for_its_string_is_cut_between_characters() -> None:
    assert from_txt(to_txt({"name": "ồ" * 100}))["name"] == "ồ" * 83


@pytest.mark.parametrize("text", ["", " ", "a" * 65, "a\x1b[31mb", "a\nb", "a\u202eb"])
def test_a_station_has_a_name_that_can_be_shown(text: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        station_name(text)


def test_names_are_compared_composed() -> None:
    decomposed = unicodedata.normalize("NFD", "Trường học")
    assert decomposed != "Trường học"
    assert station_name(decomposed) == "Trường học"
    assert found_speaker(speaker_txt(decomposed, ""), "10.0.0.1").name == "Trường học"


def test_a_station_tells_its_root_if_it_has_one() -> None:
    shown = shown_fingerprint(bytes(range(32)))
    assert from_txt(station_txt("A", shown)) == {"v": "1", "name": "A", "root": shown}
    assert from_txt(station_txt("A")) == {"v": "1", "name": "A"}


@pytest.mark.parametrize(
    ("station", "joined"), [("", None), ("10.0.0.9:7460", StationAddress("10.0.0.9", 7460))]
)
def test_a_loudspeaker_tells_its_station(station: str, joined: StationAddress | None) -> None:
    expected = FoundSpeaker("Sân", "10.0.0.1", joined)
    assert found_speaker(speaker_txt("Sân", station), "10.0.0.1") == expected


@pytest.mark.parametrize(("name", "station"), [("", ""), ("all", ""), ("a/b", ""), ("a", "x:y")])
def test_a_loudspeaker_that_cannot_be_is_none(name: str, station: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        found_speaker(speaker_txt(name, station), "10.0.0.1")
