"""Which key may speak in which stream."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.keys.certifier import Certifier
from server.processes.bus import StreamOrder
from tests.support.stations import GENERATION, KEY, stream_report
from transport.control.priority import Priority
from transport.errors import MalformedPacket
from transport.security.certificates import StreamCertificate
from transport.security.keys import SigningKey, VerifyKey

ORDER = StreamOrder(8, 10.0, (7 << 32) + 8)
REPORT = stream_report(ORDER, 1)
PRIORITIES = st.sampled_from(Priority)


def certifier() -> Certifier:
    return Certifier(KEY, GENERATION)


@given(PRIORITIES, st.booleans())
def test_what_it_signs_is_what_it_was_asked(priority: Priority, test: bool) -> None:
    data = certifier().certificate(ORDER, REPORT, priority, test)
    read = StreamCertificate.parse(data, VerifyKey(KEY.public), GENERATION)
    assert (read.serial, read.public) == (ORDER.serial, REPORT.public)
    assert (read.highest_priority, read.test) == (priority, test)


def test_of_another_key_or_generation_it_is_none() -> None:
    data = certifier().certificate(ORDER, REPORT, Priority.LIVE, False)
    for key, generation in ((SigningKey(bytes(32)), GENERATION), (KEY, GENERATION + 1)):
        with pytest.raises(MalformedPacket):
            StreamCertificate.parse(data, VerifyKey(key.public), generation)


def test_each_is_signed_once_and_no_two_are_taken_for_one() -> None:
    made = certifier()
    wanted = [
        (ORDER, REPORT, Priority.LIVE, False),
        (replace(ORDER, serial=9), REPORT, Priority.LIVE, False),
        (ORDER, stream_report(ORDER, 2), Priority.LIVE, False),
        (ORDER, REPORT, Priority.EMERGENCY, False),
        (ORDER, REPORT, Priority.LIVE, True),
    ]
    first = [made.certificate(*words) for words in wanted]
    assert len(set(first)) == len(wanted)
    for words, data in zip(wanted, first, strict=True):
        assert made.certificate(*words) is data


def test_epochs_that_pass_cost_no_signature() -> None:
    made = certifier()
    data = made.certificate(ORDER, REPORT, Priority.LIVE, False)
    later = replace(REPORT, epochs=REPORT.epochs[1:])
    assert made.certificate(ORDER, later, Priority.LIVE, False) is data


def test_those_of_long_ago_are_forgotten() -> None:
    made = certifier()
    first = made.certificate(ORDER, REPORT, Priority.LIVE, False)
    for serial in range(600):
        made.certificate(replace(ORDER, serial=serial), REPORT, Priority.LIVE, False)
    assert len(made._made) == 512
    again = made.certificate(ORDER, REPORT, Priority.LIVE, False)
    assert again == first
    assert again is not first
