"""Real processes of Loa for the demo, the benches and the tests: started, asked and ended."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from server.data import DataFolder
from server.remote import ApiError, Credentials, call, credentials_of, rows

# A loudspeaker that looks for its station by mDNS may rest half a minute between two looks.
_START_S = 90.0
# A voice waits for 5 s by itself, for its last words to have been said.
_END_S = 15.0
_POLL_S = 0.02
# Thousands of loudspeakers may be on their way in, before a call of the API.
_ANSWER_S = 30.0
LOA = (sys.executable, "-P", "-m", "loa")


class ProcessError(Exception):
    """A process did not do what it was started for; one line."""


class Bench:
    """A station and whatever else is started beside it; everything ends with the block."""

    def __init__(self, folder: Path) -> None:
        """Logs, recordings and whatever else is written go to `folder`."""
        self.folder = folder
        self.address = ""
        self._station: subprocess.Popen[str] | None = None
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.close()

    @property
    def data(self) -> DataFolder:
        """The station's own folder; a station started again in this bench finds it as it was."""
        return DataFolder(self.folder / "station")

    @property
    def environment(self) -> dict[str, str]:
        """Of an operator at this station; what Loa's settings are elsewhere counts for nothing."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("LOA_")}
        return {**others, "LOA_DATA": str(self.data.path)}

    @property
    def credentials(self) -> Credentials:
        """The operator's, as they are now; ProcessError if there are none."""
        try:
            return credentials_of(self.data, {})
        except ApiError as error:
            raise ProcessError(str(error)) from None

    def start_station(
        self,
        *options: str,
        port: int = 0,
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """Returns when the station is ready; its address is then in `address`.

        `env` is added to the environment; `under` is what the command is an argument of.
        """
        if not self.data.holds_station():
            self.data.create("Bench")
        words = ["--data", str(self.data.path), "--port", str(port)]
        self._station = self.start("serve", *words, *options, log="station", env=env, under=under)
        assert self._station.stdout is not None  # noqa: S101 - it was opened as a pipe
        line = self._station.stdout.readline()
        if not line.startswith("station ready at https://"):
            raise ProcessError(f"the station did not start: {self.log('station')}")
        self.address = line.rstrip().rpartition("/")[2]

    @property
    def station(self) -> subprocess.Popen[str]:
        """The station's process; ProcessError before it was started."""
        if self._station is None:
            raise ProcessError("no station has been started")
        return self._station

    def kill_station(self) -> None:
        """Without warning. Its processes notice that, and have its ports until they do."""
        pid = self.station.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.station.kill()
        self.station.wait()

        def gone() -> bool:
            return not any(Path(f"/proc/{child}/exe").exists() for child in children)

        wait_until(gone, "the end of the station's processes")

    def start_speaker(
        self,
        name: str,
        *options: str,
        simulate: dict[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """A loudspeaker that records to NAME.wav, unless the options say otherwise.

        It is enrolled the first time; a second of the same name is the same loudspeaker. `env` and
        `under` as for `start_station`.
        """
        words = ["--server", self.address, "--name", name, "--no-discovery"]
        words += ["--state", str(self.state(name))]
        if not self.state(name).exists():
            words += ["--enrol", self.code(name)]
        if "--output" not in options:
            words += ["--output", f"wav:{self.recording(name)}"]
        if simulate is not None:
            words += ["--simulate", json.dumps(simulate)]
        return self.start("speaker", *words, *options, log=name, env=env, under=under)

    def state(self, name: str) -> Path:
        """Where a loudspeaker keeps its key, and whom it trusts."""
        return self.folder / f"{name}.state.json"

    def code(self, name: str) -> str:
        """A code to enrol a loudspeaker with."""
        (made,) = self.send("POST", "/api/v1/enrolments", {"names": [name]})["codes"]
        return str(made["code"])

    def start(
        self,
        verb: str,
        *words: str,
        log: str,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        under: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Any verb; its standard error goes to LOG.log. `env`, `under` as for `start_station`."""
        errors = self._ending.enter_context((self.folder / f"{log}.log").open("a"))
        process = subprocess.Popen(
            [*under, *LOA, verb, *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**self.environment, **(env or {})},
        )
        self._ending.callback(end, process)
        return process

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command of an operator's, to its end; `options` as those of `subprocess.run`."""
        given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60}
        env = {**self.environment, "LOA_SERVER": self.address, **options.pop("env", {})}
        return subprocess.run([*LOA, *words], env=env, check=False, **(given | options))

    def recording(self, name: str) -> Path:
        """Where a loudspeaker's recording is."""
        return self.folder / f"{name}.wav"

    def log(self, name: str) -> str:
        """What a process has said on its standard error."""
        return (self.folder / f"{name}.log").read_text().strip()

    def get(self, path: str) -> Any:
        """A reply of the station's HTTP API; ProcessError if it refuses."""
        return self._call("GET", path, None)

    def rows(self, path: str) -> list[dict[str, Any]]:
        """All pages of a list of the station's HTTP API; ProcessError if it refuses."""
        try:
            return rows(self.address, path, _ANSWER_S, self.credentials)
        except ApiError as error:
            raise ProcessError(str(error)) from None

    def text(self, path: str) -> str:
        """A reply of the station's HTTP API that is no JSON; ProcessError if it refuses."""
        context = ssl.create_default_context(cafile=self.data.tls_certificate)
        context.check_hostname = False
        token = {"Authorization": f"Bearer {self.credentials.token}"}
        host, _, port = self.address.partition(":")
        connection = http.client.HTTPSConnection(
            host, int(port), timeout=_ANSWER_S, context=context
        )
        with closing(connection):
            connection.request("GET", path, headers=token)
            reply = connection.getresponse()
            body = reply.read().decode()
        if reply.status != HTTPStatus.OK:
            raise ProcessError(body)
        return body

    def send(self, method: str, path: str, body: object) -> Any:
        """A reply of the station's HTTP API to a change; ProcessError if it refuses."""
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: object) -> Any:
        try:
            return call(self.address, method, path, body, _ANSWER_S, self.credentials)
        except ApiError as error:
            raise ProcessError(str(error)) from None

    def define_zones(self, zones: Mapping[str, Sequence[str]]) -> None:
        """Zones by the names of their loudspeakers."""
        for name, speakers in zones.items():
            self.send("PUT", f"/api/v1/zones/{name}", {"definition": {"speakers": list(speakers)}})

    def clear_zone(self, name: str) -> None:
        """A zone for stock players; no loudspeaker is in it."""
        body = {"definition": {"tag": "stock player"}, "clear": True}
        self.send("PUT", f"/api/v1/zones/{name}", body)

    def speakers(self) -> dict[str, dict[str, Any]]:
        """The station's list of loudspeakers, by name."""
        return {row["name"]: row for row in self.rows("/api/v1/speakers")}

    def wait_until_idle(self, names: Sequence[str]) -> None:
        """Returns when all these have joined and know the time."""

        def ready() -> bool:
            rows = self.speakers()
            return all(rows.get(name, {}).get("state") in {"idle", "playing"} for name in names)

        wait_until(ready, f"loudspeakers {', '.join(names)} in step with the station")


def wait_until(
    condition: Callable[[], bool], what: str, timeout_s: float = _START_S, every_s: float = _POLL_S
) -> float:
    """Poll until true; the seconds it took, or ProcessError."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            raise ProcessError(f"gave up waiting for {what}")
        time.sleep(every_s)
    return time.monotonic() - began_s


def end(process: subprocess.Popen[str], number: int = signal.SIGINT) -> int:
    """End a process as a person would; its exit status."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what was said last, nobody read
                    pipe.close()
