import pytest

from transport.control.address import StationAddress


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loa.example", StationAddress("loa.example", 7460)),
        ("loa.example:80", StationAddress("loa.example", 80)),
        ("loa.trườnghọc.example", StationAddress("loa.trườnghọc.example", 7460)),
        ("loa.example.", StationAddress("loa.example.", 7460)),
        ("10.0.0.1:65535", StationAddress("10.0.0.1", 65_535)),
    ],
)
def test_an_address_is_a_host_and_maybe_a_port(text: str, expected: StationAddress) -> None:
    assert StationAddress.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":80", "host:", "host:0", "host:65536", "host:-1", "host:x", "host:8 0"),
        *(
            "::1",
            "[::1]:80",
            "host:²",
            "host:" + "1" * 5_000,
            "host/path",
            "http://host:80",
            "ho st",
            "user@host:80",
            "a\nb",
            "a..b",
            ".a",
            "x" * 64,
            "ồ" * 60,
        ),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no station's address"):
        StationAddress.parse(text)
