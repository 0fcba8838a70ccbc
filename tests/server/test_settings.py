"""What an operator may set, and that everything else is refused in one line with what to do."""

from typing import Any

import pytest

from server.settings import Settings, SettingsError, WrongSettingError

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"bind": "station"}, "--bind station", "IP address"),
    ({"bind": ""}, "--bind", "IP address"),
    ({"bind": "127.0.0.1.1"}, "--bind", "IP address"),
    ({"bind": "[::1]"}, "--bind [::1]", "IP address"),
    ({"bind": "::ffff:127.0.0.1"}, "--bind ::ffff:127.0.0.1", "use an IPv4 address"),
    ({"bind": "fe80::1%eth0"}, "--bind fe80::1%eth0", "a global IPv6 one"),
    ({"interface": "::1"}, "--interface ::1", "IPv4 address"),
    ({"senders": 0}, "--senders 0", "use 1 to 32"),
    ({"senders": 33}, "--senders 33", "use 1 to 32"),
    ({"halls": -1}, "--halls -1", "use 0 to 32"),
    ({"halls": 33}, "--halls 33", "use 0 to 32"),
    ({"interface": "eth0"}, "--interface eth0", "IPv4 address"),
    ({"interface": "0.0.0.0"}, "--interface 0.0.0.0", "name the one address"),
    ({"port": -1}, "--port -1", "use 1 to 65531"),
    ({"port": 65532}, "--port 65532", "use 1 to 65531"),
    ({"ttl": -1}, "--ttl -1", "use 0 to 255"),
    ({"ttl": 256}, "--ttl 256", "use 0 to 255"),
    ({"group_port": 5005}, "--group-port 5005", "use an even port"),
    ({"group_port": 0}, "--group-port 0", "use an even port"),
    ({"group_port": 65536}, "--group-port 65536", "use an even port"),
    ({"groups": "everybody"}, "--groups everybody", "such as 239.192.76.0/24"),
    ({"groups": "239.192.76.1/24"}, "--groups 239.192.76.1/24", "such as 239.192.76.0/24"),
    ({"groups": "ff02::/16"}, "--groups", "such as 239.192.76.0/24"),
    ({"groups": "192.0.2.0/24"}, "--groups 192.0.2.0/24", "no multicast range"),
    ({"groups": "224.0.0.0/3"}, "--groups 224.0.0.0/3", "no multicast range"),
    ({"groups": "224.0.0.0/24"}, "--groups 224.0.0.0/24", "such as 239.192.76.0/24"),
    ({"tls_certificate": "/c.pem"}, "--tls-certificate /c.pem", "set tls_key as well"),
    ({"tls_key": "/k.pem"}, "--tls-key /k.pem", "set tls_certificate as well"),
    ({"tls_certificate": "c.pem", "tls_key": "/k.pem"}, "--tls-certificate c.pem", "whole path"),
    ({"tls_certificate": "/c.pem", "tls_key": "k.pem"}, "--tls-key k.pem", "whole path"),
    ({"groups": "224.0.0.0/4"}, "--groups 224.0.0.0/4", "such as 239.192.76.0/24"),
]


@pytest.mark.parametrize(("wrong", "names", "says"), WRONG, ids=[str(row[0]) for row in WRONG])
def test_a_wrong_setting_is_refused_in_one_line_that_says_what_to_do(
    wrong: dict[str, Any], names: str, says: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(**wrong)
    line = str(refused.value)
    assert line.startswith(names)
    assert says in line
    assert len(line.splitlines()) == 1


RIGHT: list[dict[str, Any]] = [
    {},
    {"bind": "127.0.0.2"},
    {"bind": "0.0.0.0"},
    {"bind": "192.0.2.1"},
    {"bind": "::"},
    {"bind": "2001:db8::1"},
    {"senders": 32, "halls": 32},
    {"interface": "192.0.2.1"},
    {"port": 0},
    {"port": 1},
    {"port": 65531},
    {"ttl": 0},
    {"ttl": 255},
    {"group_port": 2},
    {"group_port": 65534},
    {"groups": "239.192.76.7/32"},
    {"groups": "224.0.1.0/24"},
    {"tls_certificate": "/c.pem", "tls_key": "/k.pem"},
]


@pytest.mark.parametrize("right", RIGHT, ids=str)
def test_a_right_setting_is_taken(right: dict[str, Any]) -> None:
    settings = Settings(**right)
    assert {name: getattr(settings, name) for name in right} == right


def test_a_wrong_setting_says_what_it_is() -> None:
    with pytest.raises(WrongSettingError) as refused:
        Settings(port=-1)
    assert refused.value.setting == "port"
    assert "--" not in refused.value.reason
