"""Internet radio from a server on loopback: endless, broken, silent, segmented, lying."""

import concurrent.futures
import http.client
import io
import itertools
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typing_extensions import override

from codec.dsp.silence import SilenceDetector
from codec.errors import SourceError
from codec.format import Samples
from server.live.fetching import Network
from server.live.url import UrlSource
from tests.support.ports import nobodys_port

PATIENCE_S = 20.0
Answer = Callable[[BaseHTTPRequestHandler], None]


def encoded(
    path: Any, form: str, codec: str, seconds: float, level: float = 0.5, **options: str
) -> None:
    """A 440 Hz tone in a container, to a path or a stream."""
    with av.open(path, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        for start in range(0, round(seconds * 48_000), 960):
            phase = 2 * np.pi * 440 / 48_000 * np.arange(start, start + 960)
            tone = (level * np.sin(phase)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(tone[np.newaxis], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def sound_bytes(form: str, codec: str, seconds: float, level: float = 0.5) -> bytes:
    held = io.BytesIO()
    encoded(held, form, codec, seconds, level)
    return held.getvalue()


MP3 = sound_bytes("mp3", "libmp3lame", 2)


class Radio:
    """Answers as it is told to, one connection after another; the last answer is repeated."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[Answer] = []
        self.asked: list[str] = []
        self.over = threading.Event()
        radio = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                radio.asked.append(f"{self.path} {self.headers.get('Icy-MetaData')}")
                answers = radio.answers
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

            @override
            def handle(self) -> None:
                # Whoever listens may leave at any time.
                with suppress(OSError):
                    super().handle()

            @override
            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            @override
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def end(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def radio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Radio]:
    monkeypatch.setenv("no_proxy", "*")
    radio = Radio()
    yield radio
    radio.end()


def send(data: bytes, kind: str = "audio/mpeg", times: int = 1) -> Answer:
    """A stream of unknown length that breaks off when all has been sent."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        for _ in range(times):
            handler.wfile.write(data)

    return answer


def fail(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


def hang(radio: Radio, data: bytes) -> Answer:
    """Some sound, and then nothing."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(data)(handler)
        radio.over.wait(PATIENCE_S)

    return answer


def trickle(radio: Radio) -> Answer:
    """Never quiet, and never any sound."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(b"")(handler)
        while not radio.over.wait(0.01):
            handler.wfile.write(b"x")

    return answer


def icy(handler: BaseHTTPRequestHandler) -> None:
    """As Icecast: titles between the bytes of those who ask for them."""
    asked = handler.headers.get("Icy-MetaData") == "1"
    handler.send_response(200)
    handler.send_header("Content-Type", "audio/mpeg")
    if asked:
        handler.send_header("icy-metaint", "1000")
    handler.end_headers()
    title = b"StreamTitle='%s';" % (b"x" * 200)
    for at in range(0, len(MP3), 1_000):
        handler.wfile.write(MP3[at : at + 1_000])
        if asked:
            handler.wfile.write(bytes([-(-len(title) // 16)]) + title.ljust(224, b"\0"))


def take(blocks: Iterator[Samples], seconds: float) -> Samples:
    """At least so much, if it does not stop before."""
    assert isinstance(blocks, Generator)
    taken: list[Samples] = []
    with closing(blocks):
        for block in blocks:
            taken.append(block)
            if sum(map(len, taken)) >= seconds * 48_000:
                break
    return np.concatenate(taken)


def is_tone(sound: Samples, level: float = 0.5) -> bool:
    """The 440 Hz tone, and nothing else to speak of."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    centre = round(440 * len(sound) / 48_000)
    pure = np.sum(spectrum[centre - 50 : centre + 51]) / np.sum(spectrum)

    return bool(pure > 0.99 and np.std(sound) == pytest.approx(level / np.sqrt(2), rel=0.05))


@pytest.mark.parametrize(
    ("form", "codec", "kind"),
    [
        ("mp3", "libmp3lame", "audio/mpeg"),
        ("ogg", "libopus", "application/ogg"),
        ("ogg", "flac", "application/ogg"),
        ("adts", "aac", "audio/aac"),
    ],
)
def test_a_stream_is_heard(radio: Radio, form: str, codec: str, kind: str) -> None:
    radio.answers = [send(sound_bytes(form, codec, 2), kind)]
    sound = take(iter(UrlSource(f"{radio.url}/live")), 1.9)
    assert sound.dtype == np.float32
    assert is_tone(sound[4_800:86_400])


def test_stereo_and_blocks_of_one_length(radio: Radio) -> None:
    radio.answers = [send(MP3)]
    stream = iter(UrlSource(radio.url, channels=2).blocks(480))
    blocks = list(itertools.islice(stream, 100))
    assert {block.shape for block in blocks} == {(480, 2)}


def test_titles_are_not_taken_for_sound(radio: Radio) -> None:
    radio.answers = [icy]
    assert is_tone(take(iter(UrlSource(radio.url)), 1.9)[4_800:86_400])
    assert radio.asked == ["/ None"]


def test_a_server_that_speaks_icy_instead_of_http_is_heard(radio: Radio) -> None:
    def shoutcast(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"ICY 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n" + MP3)

    radio.answers = [shoutcast]
    assert is_tone(take(iter(UrlSource(radio.url)), 1.9)[4_800:86_400])


def test_a_stream_that_breaks_comes_back_and_says_so_once(radio: Radio) -> None:
    radio.answers = [send(MP3), fail(503), fail(503), send(b"rubbish"), send(MP3)]
    said: list[str] = []
    pauses: list[float] = []
    source = UrlSource(radio.url, on_event=said.append, pause=pauses.append)
    assert len(take(iter(source), 3)) >= 3 * 48_000
    assert said == [
        f"{radio.url} lost: the stream ended; trying again",
        f"{radio.url} is back",
    ]
    assert pauses == [0.5, 1, 2, 4]


def test_pauses_grow_to_eight_seconds_and_are_short_again_after_a_good_stretch(
    radio: Radio,
) -> None:
    good = send(MP3, times=6)
    # Two seconds between are none.
    radio.answers = [send(MP3), *[fail(500)] * 3, send(MP3), *[fail(500)] * 2, good, send(MP3)]
    pauses: list[float] = []
    take(iter(UrlSource(radio.url, pause=pauses.append)), 17)
    assert pauses == [0.5, 1, 2, 4, 8, 8, 8, 0.5]


def test_a_stream_that_gives_nothing_any_more_is_lost(
    radio: Radio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.live.fetching.QUIET_SOCKET_S", 1.0)
    radio.answers = [hang(radio, MP3), send(MP3)]
    said: list[str] = []
    source = UrlSource(radio.url, on_event=said.append, pause=lambda _: None)
    assert len(take(iter(source), 3)) >= 3 * 48_000
    reason = "it gives no data; check the address and the network"
    assert said[0] == f"{radio.url} lost: {reason}; trying again"


def test_silence_and_sound_after_it_are_said_once_each(radio: Radio) -> None:
    quiet = sound_bytes("mp3", "libmp3lame", 2, level=0.0001)
    radio.answers = [send(MP3), send(quiet), send(MP3)]
    said: list[str] = []
    source = UrlSource(
        radio.url, on_event=said.append, silence=SilenceDetector(1.0), pause=lambda _: None
    )
    take(iter(source), 5)
    assert [text for text in said if "silence" in text or "sound" in text] == [
        f"silence for 1 s from {radio.url}",
        f"sound again from {radio.url}",
    ]


def test_a_playlist_of_segments_is_heard(radio: Radio, tmp_path: Path) -> None:
    encoded(tmp_path / "live.m3u8", "hls", "aac", 5, hls_time="1", hls_list_size="0")

    def serve(handler: BaseHTTPRequestHandler) -> None:
        send((tmp_path / handler.path[1:]).read_bytes(), "")(handler)

    radio.answers = [serve]
    assert is_tone(take(iter(UrlSource(f"{radio.url}/live.m3u8")), 4.9)[9_600:192_000])
    assert len([asked for asked in radio.asked if ".ts" in asked]) >= 4


@pytest.mark.parametrize("target", ["file://{}", "{}"])
def test_a_playlist_cannot_name_files(radio: Radio, tmp_path: Path, target: str) -> None:
    segment = tmp_path / "secret.ts"
    encoded(segment, "mpegts", "aac", 1)
    named = target.format(segment)
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    playlist = f"{head}{named}\n#EXT-X-ENDLIST\n".encode()

    def serve(handler: BaseHTTPRequestHandler) -> None:
        (send(playlist, "") if handler.path == "/live.m3u8" else fail(404))(handler)

    radio.answers = [serve]
    with pytest.raises(SourceError):
        UrlSource(f"{radio.url}/live.m3u8").connect()


def test_a_playlist_whose_segments_are_gone_is_lost_and_comes_back(
    radio: Radio, tmp_path: Path
) -> None:
    encoded(tmp_path / "live.m3u8", "hls", "aac", 5, hls_time="1", hls_list_size="0")
    gone = {"/live2.ts"}

    def serve(handler: BaseHTTPRequestHandler) -> None:
        if handler.path in gone:
            gone.remove(handler.path)
            fail(404)(handler)
        else:
            send((tmp_path / handler.path[1:]).read_bytes(), "")(handler)

    radio.answers = [serve]
    said: list[str] = []
    url = f"{radio.url}/live.m3u8"
    assert len(take(iter(UrlSource(url, on_event=said.append, pause=lambda _: None)), 6)) > 0
    reason = "the server answered 404 (Not Found); check the address"
    assert said == [f"{url} lost: {reason}; trying again", f"{url} is back"]


def test_one_opening_serves_for_the_first_reading(radio: Radio) -> None:
    radio.answers = [send(MP3), fail(404)]
    source = UrlSource(radio.url)
    source.connect()
    assert len(take(iter(source), 1)) >= 48_000
    assert len(radio.asked) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (fail(404), "the server answered 404 (Not Found); check the address"),
        (send(b"<html>" * 1_000, "text/html"), "it is not sound we can read; give the stream "),
        (send(b""), "it is not sound we can read; give the stream "),
    ],
)
def test_what_cannot_be_opened_at_first_is_said_in_one_line(
    radio: Radio, answer: Answer, said: str
) -> None:
    radio.answers = [answer]
    with pytest.raises(SourceError) as error:
        UrlSource(f"{radio.url}/x").connect()
    assert str(error.value).startswith(f"{radio.url}/x: {said}")
    assert "\n" not in str(error.value)


def test_a_redirection_that_leads_nowhere_is_said_in_one_line(radio: Radio) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{radio.url}/x")
        handler.end_headers()

    radio.answers = [answer]
    with pytest.raises(SourceError, match=r"the server answered 302 \(.*Found\)") as error:
        UrlSource(f"{radio.url}/x").connect()
    assert "\n" not in str(error.value)


def test_a_playlist_that_names_what_is_no_address_is_said(radio: Radio) -> None:
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    playlist = f"{head}http://{'a' * 300}/x.ts\n#EXT-X-ENDLIST\n".encode()
    radio.answers = [send(playlist, "")]
    with pytest.raises(SourceError, match="an address in it cannot be"):
        UrlSource(f"{radio.url}/live.m3u8").connect()


def openings() -> list[threading.Thread]:
    """Those that go on; what ends at once may have its last turn later on a busy machine."""
    those = [thread for thread in threading.enumerate() if thread.name == "opening"]
    for thread in those:
        thread.join(2)
    return [thread for thread in those if thread.is_alive()]


def test_a_server_that_never_begins_is_given_up_and_left(radio: Radio) -> None:
    radio.answers = [trickle(radio)]
    with pytest.raises(SourceError) as error:
        UrlSource(radio.url, begin_s=0.2).connect()
    assert str(error.value) == (
        f"{radio.url}: it did not begin to send within 0.2 s; check the address"
    )
    assert openings() == []


def test_a_server_that_does_not_answer_is_left_at_once(radio: Radio) -> None:
    """Not when its socket has been quiet for 5 s: the thread would outlive the process."""
    waited: list[bool] = []
    radio.answers = [lambda _: waited.append(radio.over.wait(PATIENCE_S))]
    with pytest.raises(SourceError, match=r"within 0\.1 s"):
        UrlSource(radio.url, begin_s=0.1).connect()
    assert openings() == []


def test_a_stream_that_does_not_begin_again_is_given_up_and_tried_again(radio: Radio) -> None:
    radio.answers = [send(MP3), trickle(radio), send(MP3)]
    said: list[str] = []
    pauses: list[float] = []
    source = UrlSource(radio.url, on_event=said.append, pause=pauses.append, begin_s=3)
    assert len(take(iter(source), 3)) >= 3 * 48_000
    assert len(pauses) == 2
    assert said[-1] == f"{radio.url} is back"


def test_an_interrupt_while_connecting_reaches_who_connects(
    radio: Radio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("server.live.url.wait", interrupted)
    radio.answers = [trickle(radio)]
    with pytest.raises(KeyboardInterrupt):
        UrlSource(radio.url).connect()
    assert openings() == []


def test_what_was_opened_as_the_interrupt_came_is_closed(
    radio: Radio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(futures: list[Future[Any]], limit_s: float) -> None:
        concurrent.futures.wait(futures, limit_s)
        raise KeyboardInterrupt

    closed: list[Network] = []
    close = Network.close

    def closing_it(network: Network) -> None:
        closed.append(network)
        close(network)

    monkeypatch.setattr("server.live.url.wait", interrupted)
    monkeypatch.setattr(Network, "close", closing_it)
    radio.answers = [send(MP3)]
    with pytest.raises(KeyboardInterrupt):
        UrlSource(radio.url).connect()
    assert len(closed) == 1


@pytest.mark.parametrize("at", ["open", "read1"])
def test_what_is_no_exception_passes_through_ffmpeg(
    radio: Radio, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], at: str
) -> None:
    """Ctrl-C inside of FFmpeg's callbacks was a traceback and a segmentation fault."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    owner = urllib.request.OpenerDirector if at == "open" else http.client.HTTPResponse
    monkeypatch.setattr(owner, at, interrupted)
    radio.answers = [send(MP3)]
    with pytest.raises(KeyboardInterrupt):
        UrlSource(radio.url).connect()
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_while_reading_ends_it(radio: Radio, monkeypatch: pytest.MonkeyPatch) -> None:
    radio.answers = [send(MP3, times=20)]
    blocks = iter(UrlSource(radio.url))
    next(blocks)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(http.client.HTTPResponse, "read1", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(itertools.islice(blocks, 100_000))


def test_nobody_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with nobodys_port() as port:
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(SourceError) as error:
            next(iter(UrlSource(url)))
    assert str(error.value) == f"{url}: Connection refused; check the address and the network"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b",
        "file:///etc/passwd",
        "http://",
        "live.mp3",
        "http://127.0.0.1:99999/",
        "http://[",
        f"http://{'a' * 300}/",
        f"http://{'a.' * 150}/",
        "http://a..b/",
        "http://a/b c",
        "http://a/\nb",
        "http://a/ä",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no address of a stream"):
        UrlSource(url)


def test_three_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="channels"):
        UrlSource("http://a/b", channels=3)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    try:
        make = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 2"
        name = "-subj /CN=loa -addext subjectAltName=IP:127.0.0.1"
        subprocess.run([*make.split(), *name.split()], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl to make a certificate with")
    return key, cert


@pytest.fixture
def https(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Radio, ssl.SSLContext]]:
    key, cert = certificate
    monkeypatch.setenv("no_proxy", "*")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    radio = Radio(context)
    yield radio, ssl.create_default_context(cafile=str(cert))
    radio.end()


def test_a_certificate_that_is_trusted_is_accepted(https: tuple[Radio, ssl.SSLContext]) -> None:
    radio, tls = https
    radio.answers = [send(MP3)]
    assert is_tone(take(iter(UrlSource(radio.url, tls=tls)), 1.9)[4_800:86_400])


def test_a_certificate_that_is_not_trusted_is_refused(https: tuple[Radio, ssl.SSLContext]) -> None:
    radio, _ = https
    radio.answers = [send(MP3)]
    with pytest.raises(SourceError, match=r"its certificate is not trusted \(self-signed"):
        UrlSource(radio.url).connect()


def test_the_segments_of_a_playlist_must_be_trusted_too(
    radio: Radio,
    https: tuple[Radio, ssl.SSLContext],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """FFmpeg's own HTTPS would take them from anybody."""
    secure, _ = https
    encoded(tmp_path / "live.m3u8", "hls", "aac", 3, hls_time="1", hls_list_size="0")
    playlist = (tmp_path / "live.m3u8").read_text().replace("live", f"{secure.url}/live")
    secure.answers = [lambda h: send((tmp_path / h.path[1:]).read_bytes(), "")(h)]
    radio.answers = [send(playlist.encode(), "")]
    with pytest.raises(SourceError, match="not trusted"):
        UrlSource(f"{radio.url}/live.m3u8").connect()
    assert secure.asked == []
    assert capfd.readouterr() == ("", "")
