"""Heads reach the places outside; whatever those are like, it is an OSError at worst."""

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.audit.anchors import Anchor, FileAnchor, SyslogAnchor, WebhookAnchor, anchors_of
from server.audit.lines import head_line, parse_line
from server.audit.places import AnchorError, check_file, check_webhook, syslog_address
from tests.support.logs import log_of
from tests.support.ports import nobodys_port

HEAD = log_of(5).heads[5]
LINE = head_line(HEAD).encode()


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    anchor = FileAnchor(path)
    anchor.put(HEAD)
    anchor.put(HEAD)
    assert [parse_line(line) for line in path.read_bytes().splitlines()] == [HEAD, HEAD]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none" / "x", tmp_path / "pipe", Path("/dev/full")):
        with pytest.raises(OSError, match=r"\w"):
            FileAnchor(path).put(HEAD)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_log_host_hears_each_head_as_one_message(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1" if family is socket.AF_INET else "::1", 0))
        host.settimeout(20)
        SyslogAnchor(host.getsockname()[:2]).put(HEAD)
        heard = host.recv(65_536)
    assert heard == b"<109>1 - - loa - audit-head - " + LINE
    assert len(heard) < 1024  # what every receiver takes (RFC 5424 section 6.1: at least 480)


def test_this_machine_s_own_log_hears_it_too(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.bind(path)
        SyslogAnchor(path).put(HEAD)
        assert host.recv(65_536).endswith(LINE)
    with pytest.raises(OSError, match="refused"):
        SyslogAnchor(path).put(HEAD)


class Hook(http.server.BaseHTTPRequestHandler):
    """Answers with what its path says."""

    heard: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append((self.path, body))
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:  # type: ignore[explicit-override]
        pass


@pytest.fixture
def hook() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The beginning of a URL, and what was posted there."""
    Hook.heard = []
    with http.server.HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Hook.heard
        server.shutdown()
        thread.join()


def test_a_web_hook_is_posted_to_and_must_take_it(
    hook: tuple[str, list[tuple[str, bytes]]],
) -> None:
    base, heard = hook
    WebhookAnchor(f"{base}/204/x?token=secret").put(HEAD)
    assert heard == [("/204/x?token=secret", LINE + b"\n")]
    for status in (302, 404, 500):
        with pytest.raises(OSError, match=str(status)):
            WebhookAnchor(f"{base}/{status}").put(HEAD)


def test_a_web_hook_that_is_none_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def babble() -> None:
            end, _ = listening.accept()
            with end:
                end.recv(65_536)
                end.sendall(b"SSH-2.0\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(OSError, match="no web server"):
            WebhookAnchor(f"http://127.0.0.1:{port}/").put(HEAD)
        thread.join()
    with nobodys_port() as port, pytest.raises(OSError, match="refused"):
        WebhookAnchor(f"http://127.0.0.1:{port}/").put(HEAD)


def test_what_is_shown_of_an_anchor_has_no_secret() -> None:
    made: tuple[Anchor, ...] = anchors_of(
        "/x/heads", "log.example.org", "https://log.example.org/secret?also=secret"
    )
    assert [anchor.shown for anchor in made] == [
        "file /x/heads",
        "syslog log.example.org:514",
        "webhook log.example.org",
    ]
    assert anchors_of(None, None, None) == ()


@pytest.mark.parametrize("text", ["heads", "./heads", "", "/a\0b", "/a\nb"])
def test_a_file_is_named_by_its_whole_path(text: str) -> None:
    with pytest.raises(AnchorError):
        check_file(text)


def test_a_log_host_is_named_as_people_do() -> None:
    assert syslog_address("log") == ("log", 514)
    assert syslog_address("192.0.2.1:5140") == ("192.0.2.1", 5140)
    assert syslog_address("[2001:db8::1]:5140") == ("2001:db8::1", 5140)
    assert syslog_address("/dev/log") == "/dev/log"


@pytest.mark.parametrize("text", ["", "a:b", "a:99999", "a/b", "udp://a", "a b", "[::1", ":514"])
def test_what_is_no_log_host_is_refused(text: str) -> None:
    with pytest.raises(AnchorError):
        syslog_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ftp://a/",
        "https://",
        "https://a:b/",
        "https://u:p@a/",
        "https://a/ b",
        "https://é/",
    ],
)
def test_what_is_no_web_hook_is_refused(text: str) -> None:
    with pytest.raises(AnchorError):
        check_webhook(text)
