"""One loudspeaker's control session: what it was last told, and what it last confirmed."""

import asyncio
from collections import deque

from fastapi import WebSocket

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
_MAX_COMMANDS = 4
# An announcement to 10,000 makes 10,000 sessions ready at once, and a signature takes 25 us: so
# many of them speak, then whoever has said something is heard.
_AT_ONCE = 32
LastWord = Refused | Enrolled


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


class Session:
    """A peer that has proved its key. All that it is told is signed as it is sent, in this order.

    `key` is its public key.
    """

    def __init__(self, websocket: WebSocket, key: bytes, speech: Speech, turns: Turns) -> None:
        self.key = key
        self._websocket = websocket
        self._speech = speech
        self._turns = turns
        self._wake = asyncio.Event()
        self._wanted: Listen | None = None
        self._adjust: Adjust | None = None
        self._outbox: dict[str, Listen | Adjust] = {}
        self._commands: deque[Command] = deque()
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._last_command = 0
        self._last_word: LastWord | None = None
        self.ending = asyncio.Event()
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
        if not self.ending.is_set():
            self._last_word = last
            self.close_code, self.close_reason = code, reason
            self.ending.set()
            self._wake.set()

    async def say(self, message: object) -> None:
        """Sign it and send it; TimeoutError if the peer does not read.

        One at a time: what was signed later must not be sent earlier.
        """
        async with self._turns:
            frame = self._speech.say(TO_SPEAKER.encode(message))
        # Not wait_for: in Python 3.11 it swallows a cancellation that meets the end of the send,
        # and the session would never be over.
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await self._websocket.send_bytes(frame)

    async def say_all(self, first: Welcome | Pending) -> None:
        """Say this, then each newest state until the end; a peer that stops reading ends it."""
        await self.say(first)
        while not self.ending.is_set():
            await self._wake.wait()
            self._wake.clear()
            messages = (*self._outbox.values(), *self._commands)
            self._outbox.clear()
            self._commands.clear()
            for message in messages:
                if not self.ending.is_set():
                    await self.say(message)
        if self._last_word is not None:
            await self.say(self._last_word)
