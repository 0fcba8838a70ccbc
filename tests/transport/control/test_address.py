import pytest

from transport.control.address import StationAddress, neighbourhood, plain_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loa.example", StationAddress("loa.example", 7460)),
        ("loa.example:80", StationAddress("loa.example", 80)),
        ("loa.trườnghọc.example", StationAddress("loa.trườnghọc.example", 7460)),
        ("loa.example.", StationAddress("loa.example.", 7460)),
        ("10.0.0.1:65535", StationAddress("10.0.0.1", 65_535)),
        ("[::1]", StationAddress("::1", 7460)),
        ("[2001:DB8::0:1]:80", StationAddress("2001:db8::1", 80)),
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
            "[::1",
            "[::1]80",
            "[::1]:",
            "[::1]:0",
            "[::1]:80:80",
            "[10.0.0.1]:80",
            "[fe80::1%eth0]:80",
            "[1:2]",
            "[::1]\n",
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


@pytest.mark.parametrize("text", ["loa.example:80", "10.0.0.1:7460", "[2001:db8::1]:7460"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert StationAddress.parse(text).text == text


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.7", True), ("localhost", True), ("::1", True), ("::2", False), ("loa", False)],
)
def test_what_a_machine_calls_itself_is_found_there_by_no_other(host: str, here: bool) -> None:
    assert StationAddress(host, 7460).is_here is here


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_an_address_has_one_spelling(text: str, expected: str) -> None:
    assert plain_address(text) == expected


@pytest.mark.parametrize("text", ["", "loa.example", "192.0.2.256", "[::1]", "192.0.2.1:80"])
def test_what_is_no_address_has_no_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        plain_address(text)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_whoever_may_choose_among_addresses_is_one_neighbourhood(
    address: str, expected: str
) -> None:
    assert neighbourhood(address) == expected
