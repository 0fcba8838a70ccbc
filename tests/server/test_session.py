"""How one session is told."""

from dataclasses import replace

from server.session import Words
from transport.control.messages import TO_SPEAKER, Adjust, Listen, StreamSpec

SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0)


def test_what_thousands_are_told_alike_is_encoded_once() -> None:
    words = Words()
    first, second = (words.encode(Listen(7, (SPEC,))) for _ in range(2))
    assert first is second
    assert TO_SPEAKER.decode(first) == Listen(7, (SPEC,))


def test_what_is_not_alike_is_not_confused() -> None:
    words = Words()
    other = replace(SPEC, ssrc=9)
    # More than are kept, and none of the streams is held by anybody else.
    for revision in range(200):
        for streams in ((), (SPEC,), (other,), (SPEC, other), (replace(SPEC, order=revision),)):
            said = Listen(revision, streams)
            assert TO_SPEAKER.decode(words.encode(said)) == said
    assert TO_SPEAKER.decode(words.encode(Adjust(3, muted=True))) == Adjust(3, muted=True)
