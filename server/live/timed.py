"""Voices that begin at media samples that are known beforehand, each to loudspeakers of its own.

`loa live` begins when its source is there. Two loudspeakers can be told apart in one recording only
if it is known when each was played what: here one programme each goes to them, and both hold the
same moment of the media clock at the same sample.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from server.live.client import LiveClient, Progress
from server.live.station import LiveError
from transport.clock.timeline import ns_of_samples, samples_of_ns

# What the slowest of networks asks for, so that all of them play in step.
_PLAYOUT_DELAY_MS = 1000.0
_BITRATE = 96_000
_BLOCK = samples_of_ms(10)
_HEARD_OUT = samples_of_ms(200)
# For both to connect.
_BEGINS_S = 2


class TimedVoice(LiveClient):
    """One voice whose first sample's place on the media clock is given."""

    def now(self) -> int:
        """Media samples."""
        return samples_of_ns(self._clock.now_ns())

    def speak_from(self, position: int, blocks: Iterator[Samples]) -> Iterator[Progress]:
        """Send the blocks as `speak` does, the first at media sample `position`; yields likewise.

        `progress.holes` tells whether any came too late to be where it belongs.
        """
        if self._stream is None:
            self._connect()
        began_ns = self._clock.own_ns(ns_of_samples(position))
        self.progress = replace(self.progress, began_ns=began_ns)
        yield from self._speak_paced(position, blocks)


def play_together(server: str, names: Sequence[str], played: Samples) -> None:
    """Play to each of these loudspeakers its column of `played` (n, names), at the same time.

    It returns when all was heard. LiveError if the station refuses, a loudspeaker is not listening,
    or something was said too late to count.
    """
    with ExitStack() as ending:
        voices = []
        for name in names:
            voice = TimedVoice(server, _request(name))
            ending.callback(voice.finish)
            voices.append(voice)
            if voice.grant.not_listening:
                raise LiveError(f"{name} is not listening: see `loa speakers show`")
        delay = samples_of_ms(max(voice.grant.playout_delay_ms for voice in voices))
        _speak(voices, np.pad(played, ((0, delay + _HEARD_OUT), (0, 0))))
        if any(voice.progress.holes for voice in voices):
            raise LiveError("this machine was too busy to speak in time: play again")


def _request(name: str) -> dict[str, object]:
    return {
        "to": [name],
        "bitrate": _BITRATE,
        "playout_delay_ms": _PLAYOUT_DELAY_MS,
        "test": True,
    }


def _speak(voices: Sequence[TimedVoice], played: Samples) -> None:
    begin = voices[0].now() + _BEGINS_S * SAMPLE_RATE
    over = threading.Event()
    failures: list[Exception] = []
    threads = [
        threading.Thread(
            target=_say, args=(voice, begin, _blocks(column), over, failures), daemon=True
        )
        for voice, column in zip(voices, played.T, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        over.set()  # Ctrl-C is heard by this thread alone
        for thread in threads:
            thread.join()
    if failures:
        raise LiveError(str(failures[0]))


def _say(
    voice: TimedVoice,
    begin: int,
    blocks: Iterator[Samples],
    over: threading.Event,
    failures: list[Exception],
) -> None:
    """All of it, or until it is over; what fails is put into `failures`, and then it is."""
    try:
        for _ in voice.speak_from(begin, blocks):
            if over.is_set():
                return
    except (LiveError, SourceError) as error:
        failures.append(error)
        over.set()


def _blocks(column: Samples) -> Iterator[Samples]:
    return (column[at : at + _BLOCK] for at in range(0, len(column), _BLOCK))
