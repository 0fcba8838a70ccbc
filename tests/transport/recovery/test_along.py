"""What goes along with a frame: the copies or the symbols that are ordered."""

from contextlib import suppress

import pytest

from transport.errors import MalformedPacket
from transport.recovery.along import Provision, pack, signed_part, unpack
from transport.recovery.copies import Copy, digest
from transport.recovery.erasure import Code, Symbols

FRAME = 960
COPIES = (Copy(960, b"before"),)
SYMBOLS = Symbols(2, 1_920, 0b11, 0, (b"symbol",))


@pytest.mark.parametrize(("along", "payload_type"), [((), 96), (COPIES, 97), (SYMBOLS, 99)])
def test_the_payload_type_says_what_goes_along(along: Symbols, payload_type: int) -> None:
    packed_type, payload = pack(b"now", along, 96)
    assert packed_type == payload_type
    assert unpack(packed_type, payload) == (b"now", along)
    told = b"" if payload_type == 96 else digest(payload, b"now")
    assert signed_part(packed_type, payload) == b"now" + told


def test_every_bit_of_the_symbols_is_signed() -> None:
    _, payload = pack(b"now", SYMBOLS, 96)
    for bit in range(8 * len(payload)):
        spoilt = bytearray(payload)
        spoilt[bit // 8] ^= 1 << bit % 8
        with suppress(MalformedPacket):
            assert signed_part(99, bytes(spoilt)) != signed_part(99, payload)


def along(provision: Provision, indices: range) -> list[str]:
    kinds = []
    for n in indices:
        what = provision.along(n * FRAME, b"frame %d" % n, 1_000)
        kinds.append("symbols" if isinstance(what, Symbols) else "copies" if what else "nothing")
    return kinds


def test_copies_go_along_until_there_are_symbols_and_at_once_when_there_are_no_more() -> None:
    provision = Provision(FRAME)
    assert along(provision, range(3)) == 3 * ["nothing"]
    provision.adapt((FRAME,), Code(4, 4))
    assert along(provision, range(3, 12)) == 4 * ["copies"] + 5 * ["symbols"]
    provision.adapt((FRAME,), None)
    assert along(provision, range(12, 14)) == 2 * ["copies"]


def test_after_a_pause_in_which_no_symbols_could_go_copies_do() -> None:
    provision = Provision(FRAME)
    provision.adapt((2 * FRAME,), Code(4, 4))
    along(provision, range(4))
    assert along(provision, range(20, 25)) == 2 * ["nothing"] + 2 * ["copies"] + ["symbols"]
