"""Files and pipes: anything FFmpeg reads, and raw samples."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

import av
import av.error

from codec.errors import SourceError
from codec.format import Samples
from codec.sources.blocks import reblock
from codec.sources.convert import Converter
from codec.sources.raw import RawFormat, raw_blocks
from codec.sources.wav import read_wav_head

# We read the bytes, FFmpeg only parses them: a playlist that names other files or addresses
# must not make the station open those.
_OPTIONS: Final = {"protocol_whitelist": "none"}
# A live stream shall not be studied for five seconds first. (`fflags=nobuffer`, often advised
# here, throws away what was read for the study: the first 250 ms of an MP3.)
_LIVE_OPTIONS: Final = {**_OPTIONS, "analyzeduration": "200000"}


class FileSource:
    """The sound of a file, or of `stream` if `path` is "-", as 48 kHz blocks of any length.

    `path` may also be a named pipe. `raw` says that there is no container but bare samples.
    Each iteration opens the file and begins again; a stream can be read once. Nothing is read
    ahead, so memory does not grow with the file, and what a live pipe holds comes out at once.
    Iterating raises SourceError where there is no sound to be had.
    """

    def __init__(
        self,
        path: str | Path,
        channels: int = 1,
        *,
        stream: BinaryIO | None = None,
        raw: RawFormat | None = None,
    ) -> None:
        if (str(path) == "-") != (stream is not None):
            msg = 'give a stream with the path "-", and with no other'
            raise ValueError(msg)
        if channels not in {1, 2}:
            msg = f"channels must be 1 or 2, not {channels}"
            raise ValueError(msg)
        self.name = "standard input" if stream is not None else str(path)
        self._path = Path(path)
        self._channels = channels
        self._stream = stream
        self._raw = raw

    def __iter__(self) -> Iterator[Samples]:
        """Blocks (n,) or (n, 2) as they come."""
        empty = True
        try:
            for block in self._read():
                empty = False
                yield block
        except (OSError, av.error.FFmpegError) as error:
            raise SourceError(self._explain(error)) from error
        if empty:
            msg = f"{self.name}: there is no sound in it; is it the right file, and complete?"
            raise SourceError(msg)

    def blocks(self, samples: int) -> Iterator[Samples]:
        """Blocks of exactly `samples`; the last may be shorter."""
        return reblock(self, samples)

    def _read(self) -> Iterator[Samples]:
        if self._stream is not None:
            yield from self._read_stream(self._stream)
            return
        with self._path.open("rb") as file:
            yield from self._read_stream(file)

    def _read_stream(self, stream: BinaryIO) -> Iterator[Samples]:
        source = _Bytes(stream)
        if self._raw is not None:
            yield from self._convert_raw(raw_blocks(source, self._raw), self._raw.rate)
            return
        head = read_wav_head(source)
        if not head.consumed:
            return
        if head.raw is not None:
            sound = raw_blocks(source, head.raw, head.data_bytes)
            yield from self._convert_raw(sound, head.raw.rate)
            return
        source.give_back(head.consumed)
        yield from self._read_container(source)

    def _convert_raw(self, blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
        converter = Converter(self._channels)
        for block in blocks:
            yield from converter.push_array(block, rate)
        yield from converter.flush()

    def _read_container(self, source: "_Bytes") -> Iterator[Samples]:
        options = _OPTIONS if source.seekable() else _LIVE_OPTIONS
        converter = Converter(self._channels)
        # Tags in an old Vietnamese encoding are no reason to refuse the sound.
        opened = av.open(source, "r", options=options, metadata_errors="replace")
        with closing(opened) as container:
            audio = container.streams.best("audio")
            if not isinstance(audio, av.AudioStream):
                msg = f"{self.name}: it has no audio track; choose another file"
                raise SourceError(msg)
            for packet in container.demux(audio):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    # One damaged packet costs its own sound, not the rest of the announcement.
                    continue
                for frame in frames:
                    yield from converter.push(frame)
        yield from converter.flush()

    def _explain(self, error: OSError | av.error.FFmpegError) -> str:
        match error:
            # First, for some of FFmpeg's errors are also OSErrors, and say nothing of the file.
            case av.error.FFmpegError():
                advice = "it is not sound we can read; give WAV, FLAC, MP3, Ogg or M4A"
            case FileNotFoundError():
                advice = "there is no such file; check the path"
            case IsADirectoryError():
                advice = "that is a folder; name one file in it"
            case PermissionError():
                advice = "it may not be read; check its permissions"
            case _:
                advice = f"reading it failed ({error.strerror}); check the disk or device"
        return f"{self.name}: {advice}"


class _Bytes:
    """A stream as FFmpeg and `raw_blocks` want it: never waits for more than the first byte.

    Without the file's name, from which FFmpeg would guess a format.
    """

    def __init__(self, stream: BinaryIO) -> None:
        # What BufferedReader.read does is wait until all it was asked for has come: 0.3 s here.
        self._take = getattr(stream, "read1", stream.read)
        self._stream = stream
        self._pending = b""

    def give_back(self, data: bytes) -> None:
        """Let `data`, just read, be read again."""
        if self._stream.seekable():
            self._stream.seek(-len(data), 1)
        else:
            self._pending = data

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes; b"" at the end."""
        if self._pending:
            data, self._pending = self._pending[:size], self._pending[size:]
            return data
        fresh: bytes = self._take(size)
        return fresh

    read = read1

    def seekable(self) -> bool:
        """Whether FFmpeg may look at the end first, as MP4 needs."""
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As io.IOBase."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As io.IOBase."""
        return self._stream.tell()
