"""One loudspeaker's control session: what it was last told, and what it last confirmed."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from starlette.datastructures import Address

from transport.control.messages import (
    TO_SPEAKER,
    Adjust,
    Command,
    Done,
    Enrolled,
    Listen,
    Pending,
    Refused,
    Welcome,
)
from transport.security.handshake import Speech

SEND_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 2.0
# Who is revoked is gone within a second, whether it reads or not.
_LAST_WORD_S = 0.4
_MAX_COMMANDS = 4
# An announcement to 10,000 makes 10,000 sessions ready at once, and a signature takes 25 us: so
# many of them speak, then whoever has said something is heard.
_AT_ONCE = 32
# Of what loudspeakers are told to listen to: so many kinds of them there may be, and a few changes.
_KEPT = 64
LastWord = Refused | Enrolled


class Words:
    """Encodes what is told; what thousands are told alike, once."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[Listen, bytes]] = {}

    def encode(self, message: object) -> bytes:
        """The bytes of a message to a loudspeaker."""
        if not isinstance(message, Listen) or not message.streams:
            return TO_SPEAKER.encode(message)
        # To compare streams takes as long as to encode them; what is kept keeps its streams alive,
        # so their ids are their own.
        alike = (message.revision, *map(id, message.streams))
        if alike not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[alike] = message, TO_SPEAKER.encode(message)
        return self._kept[alike][1]


class Turns:
    """Whose turn it is to sign: the loop is never kept from hearing others for long."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> None:
        await self._free.acquire()
        try:
            await asyncio.sleep(0)
        except BaseException:
            self._free.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class Wire(Protocol):
    """What is used of a WebSocket: Starlette's, or that of a hall."""

    @property
    def scope(self) -> Mapping[str, Any]:
        """As ASGI has it."""

    @property
    def client(self) -> Address | None:
        """Where the peer is."""

    async def accept(self, subprotocol: str | None = None) -> None:
        """Begin."""

    async def receive(self) -> Mapping[str, Any]:
        """The next message or the end, as ASGI has them."""

    async def send_bytes(self, data: bytes) -> None:
        """Say this, when the peer reads; WebSocketDisconnect or RuntimeError if it is gone."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """It is over."""


def _nobody_cares() -> None:
    return


class Session:
    """A peer that has proved its key. All that it is told is signed as it is sent, in this order.

    `key` is its public key.
    """

    def __init__(
        self, websocket: Wire, key: bytes, speech: Speech, turns: Turns, words: Words
    ) -> None:
        self.key = key
        self._websocket = websocket
        self._speech = speech
        self._turns = turns
        self._words = words
        self._wake = asyncio.Event()
        self._wanted: Listen | None = None
        self._adjust: Adjust | None = None
        self._outbox: dict[str, Listen | Adjust] = {}
        # No deque, nor an event more: 0.7 KB each, of 10,000 sessions.
        self._commands: list[Command] = []
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._last_command = 0
        self._last_word: LastWord | None = None
        self._ended: Callable[[], None] = _nobody_cares
        self.is_ending = False
        self.close_code, self.close_reason = 1000, ""
        self.confirmed = 0
        self.told = 0

    def tell(self, listen: Listen) -> None:
        """Declare its state, if it is news; one not yet sent is replaced, so nothing queues up."""
        if self._wanted is not None and self._wanted.streams == listen.streams:
            return
        self._wanted = self._outbox["listen"] = listen
        self.told = listen.revision
        self._wake.set()

    def adjust(self, adjust: Adjust) -> None:
        """Declare how loud it is, if it is news."""
        if adjust != self._adjust:
            self._adjust = self._outbox["adjust"] = adjust
            self._wake.set()

    async def command(self, action: str, seconds: float) -> str:
        """Have it do something; nothing, or one line that says why it was not done."""
        if len(self._answers) >= _MAX_COMMANDS:
            return "it has not answered yet to what it was asked before"
        self._last_command += 1
        number = self._last_command
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._commands.append(Command(number, action, seconds))
        self._wake.set()
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                error: str = await answer
                return error
        except TimeoutError:
            return f"no answer within {_ANSWER_TIMEOUT_S:g} s"
        finally:
            del self._answers[number]

    def answered(self, done: Done) -> None:
        """The loudspeaker's word on a command; one that nobody waits for is forgotten."""
        answer = self._answers.get(done.id)
        if answer is not None and not answer.done():
            answer.set_result(done.error)

    def end(self, last: LastWord | None, code: int = 1000, reason: str = "") -> None:
        """It is over: tell it `last` and nothing more, then close it so; once."""
        if not self.is_ending:
            self._last_word = last
            self.close_code, self.close_reason = code, reason
            self.is_ending = True
            self._wake.set()
            self._ended()

    def _when_ended(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        if self.is_ending:
            ended()

    async def say(self, message: object) -> None:
        """Sign it and send it; TimeoutError if the peer does not read.

        One at a time: what was signed later must not be sent earlier.
        """
        async with self._turns:
            frame = self._speech.say(self._words.encode(message))
        # Not wait_for: in Python 3.11 it swallows a cancellation that meets the end of the send,
        # and the session would never be over.
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await self._websocket.send_bytes(frame)

    async def say_all(self, first: Welcome | Pending) -> None:
        """Say this, then each newest state until the end; a peer that stops reading ends it."""
        await self.say(first)
        while not self.is_ending:
            await self._wake.wait()
            self._wake.clear()
            messages = (*self._outbox.values(), *self._commands)
            self._outbox.clear()
            self._commands.clear()
            for message in messages:
                if not self.is_ending:
                    await self.say(message)
        if self._last_word is not None:
            await self.say(self._last_word)

    async def converse(self, first: Welcome | Pending, hearing: Coroutine[Any, Any, None]) -> None:
        """Say this and what is new, and hear, until either ends.

        Once it is `end`ed, it is so within the time of a last word.
        """
        course = asyncio.timeout(None)
        saying = asyncio.create_task(self.say_all(first))
        try:
            async with course:
                self._when_ended(partial(_end_within, course, _LAST_WORD_S))
                # Also a send that fails: that ends the session as a receive that fails does.
                saying.add_done_callback(lambda _: _end_within(course, 0.0))
                await hearing
        except TimeoutError:
            if not course.expired():  # it has been silent
                raise
        finally:
            hearing.close()
            saying.cancel()
            await asyncio.wait({saying})
        if not saying.cancelled():
            saying.result()


def _end_within(course: asyncio.Timeout, seconds: float) -> None:
    """Or sooner, if it was to end sooner."""
    when_s = asyncio.get_running_loop().time() + seconds
    before_s = course.when()
    with suppress(RuntimeError):  # it has ended
        course.reschedule(when_s if before_s is None else min(when_s, before_s))
