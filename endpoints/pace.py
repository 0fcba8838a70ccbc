"""How long to wait from one question for the time to the next. Pure."""

_BURST = 8
_BURST_PAUSE_S = 0.03
# After the burst it asks more often than the station says, until the skew is known: a station that
# has few loudspeakers, for a minute; one of thousands only so often that the first line is drawn.
_PAUSE_S = 0.5
_SETTLED_EXCHANGES = 100
_OF_FEW_S = 1.0
_PAUSE_OF_MANY_S = 2.0
_QUESTIONS_OF_MANY = 4


class QuestionPace:
    """Of one loudspeaker, whose station wants to be asked every so many seconds."""

    def __init__(self) -> None:
        self._burst_left = self._few_left = 0

    def begin(self) -> None:
        """With a burst."""
        self._burst_left, self._few_left = _BURST, _QUESTIONS_OF_MANY

    @property
    def in_burst(self) -> bool:
        """Whether the next question comes at once in any case."""
        return self._burst_left > 0

    def pause_s(self, every_s: float, exchanges: int, *, answered: bool) -> float:
        """How long to wait after this question; to be called once for each.

        `exchanges` there have been of this clock; `answered` is false if the last question, or the
        one before it, was lost.
        """
        if self._burst_left > 0:
            self._burst_left -= 1
            return _BURST_PAUSE_S
        if every_s <= _OF_FEW_S:
            return every_s if exchanges > _SETTLED_EXCHANGES else min(_PAUSE_S, every_s)
        if self._few_left > 0:
            self._few_left -= 1
        elif answered:
            return every_s
        return min(_PAUSE_OF_MANY_S, every_s)
