"""How often loudspeakers tell and ask: the more there are, the less often each. Pure.

A station of 100 hears 200 words a second and 400 questions for the time, and one of 4,000 no more
than 200 and 500: what each further loudspeaker costs is its sound.
"""

_NS_PER_S = 1_000_000_000
# A loudspeaker that is gone must be missed within 100 s, and its clock is known by eight answers.
_TELLERS_A_SECOND, _TELEMETRY_S = 200.0, (0.5, 20.0)
# On Wi-Fi four questions a second leave 60 us between two of them where one leaves 140 (p95).
_ASKERS_A_SECOND, _TIME_S = 500.0, (0.25, 15.0)
# Two words may be lost or late before a loudspeaker is missed.
_MISSED = 2.5
_LEAST_OFFLINE_S, _LEAST_SILENCE_S, _SILENCE_MORE_S = 5.0, 10.0, 5.0


def telemetry_s(enrolled: int) -> float:
    """How often each of so many loudspeakers says how it is; 0.5 to 20 s."""
    least, most = _TELEMETRY_S
    return min(max(enrolled / _TELLERS_A_SECOND, least), most)


def time_s(enrolled: int) -> float:
    """How often each of so many asks for the time, once it knows it; 0.25 to 15 s."""
    least, most = _TIME_S
    return min(max(enrolled / _ASKERS_A_SECOND, least), most)


def offline_ns(telemetry_s: float) -> int:
    """Whoever has said nothing for so long counts as offline."""
    return round(max(_LEAST_OFFLINE_S, _MISSED * telemetry_s) * _NS_PER_S)


def silence_s(telemetry_s: float) -> float:
    """A session in which nothing has been said for so long is over."""
    return max(_LEAST_SILENCE_S, _MISSED * telemetry_s + _SILENCE_MORE_S)
