"""Real processes of Loa for the demo, the benches and the tests: started, asked and ended."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from server.data import DataFolder

_START_S = 30.0
_END_S = 5.0
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

    def start_station(
        self, *options: str, port: int = 0, env: Mapping[str, str] | None = None
    ) -> None:
        """Returns when the station is ready; its address is then in `address`.

        `env` is added to the environment.
        """
        if not self.data.holds_station():
            self.data.create("Bench")
        words = ["--data", str(self.data.path), "--port", str(port)]
        self._station = self.start("serve", *words, *options, log="station", env=env)
        assert self._station.stdout is not None  # noqa: S101 - it was opened as a pipe
        line = self._station.stdout.readline()
        if not line.startswith("station ready at http://"):
            raise ProcessError(f"the station did not start: {self.log('station')}")
        self.address = line.rstrip().rpartition("/")[2]

    @property
    def station(self) -> subprocess.Popen[str]:
        """The station's process; ProcessError before it was started."""
        if self._station is None:
            raise ProcessError("no station has been started")
        return self._station

    def start_speaker(
        self, name: str, *options: str, simulate: dict[str, Any] | None = None
    ) -> subprocess.Popen[str]:
        """A loudspeaker that records to NAME.wav, unless the options say otherwise."""
        words = ["--server", self.address, "--name", name, "--no-discovery"]
        if "--output" not in options:
            words += ["--output", f"wav:{self.recording(name)}"]
        if simulate is not None:
            words += ["--simulate", json.dumps(simulate)]
        return self.start("speaker", *words, *options, log=name)

    def start(
        self,
        verb: str,
        *words: str,
        log: str,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Any verb; its standard error goes to LOG.log. `env` is added to the environment."""
        errors = self._ending.enter_context((self.folder / f"{log}.log").open("a"))
        process = subprocess.Popen(
            [*LOA, verb, *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=None if env is None else {**os.environ, **env},
        )
        self._ending.callback(end, process)
        return process

    def recording(self, name: str) -> Path:
        """Where a loudspeaker's recording is."""
        return self.folder / f"{name}.wav"

    def log(self, name: str) -> str:
        """What a process has said on its standard error."""
        return (self.folder / f"{name}.log").read_text().strip()

    def get(self, path: str) -> Any:
        """A reply of the station's HTTP API."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as reply:
            return json.load(reply)

    def send(self, method: str, path: str, body: object) -> Any:
        """A reply of the station's HTTP API to a change."""
        headers = {"Content-Type": "application/json"}
        url = f"http://{self.address}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310 - our own scheme
            return json.load(reply)

    def define_zones(self, zones: Mapping[str, Sequence[str]]) -> None:
        """Zones by the names of their loudspeakers."""
        for name, speakers in zones.items():
            self.send("PUT", f"/api/zones/{name}", {"definition": {"speakers": list(speakers)}})

    def speakers(self) -> dict[str, dict[str, Any]]:
        """The station's list of loudspeakers, by name."""
        return {row["name"]: row for row in self.get("/api/speakers")}

    def wait_until_idle(self, names: Sequence[str]) -> None:
        """Returns when all these have joined and know the time."""

        def ready() -> bool:
            rows = self.speakers()
            return all(rows.get(name, {}).get("state") in {"idle", "playing"} for name in names)

        wait_until(ready, f"loudspeakers {', '.join(names)} in step with the station")


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = _START_S) -> float:
    """Poll until true; the seconds it took, or ProcessError."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            raise ProcessError(f"gave up waiting for {what}")
        time.sleep(0.02)
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
        if process.stdout is not None:
            process.stdout.close()
