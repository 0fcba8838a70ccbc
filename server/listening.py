"""What loudspeakers listen to, found out once for all that are told the same. Pure."""

from server.directory import Endpoint
from server.programmes import Certify, Programme
from transport.control.messages import StreamSpec

# Kinds of loudspeakers times the sets of programmes that reach one of them.
_KEPT = 2_000


class Listening:
    """The streams that loudspeakers are told of: the same objects for all that are alike."""

    def __init__(self, group_port: int) -> None:
        self._group_port = group_port
        self._made: dict[object, tuple[StreamSpec, ...]] = {}

    def forget(self) -> None:
        """Something has changed about the programmes, or about the key that vouches for them."""
        self._made.clear()

    def specs(
        self, endpoint: Endpoint, meant: tuple[Programme, ...], certify: Certify
    ) -> tuple[StreamSpec, ...]:
        """What such a loudspeaker is told of the programmes `meant` for it, the loudest first."""
        wanted = certify, endpoint.kind, tuple(programme.number for programme in meant)
        specs = self._made.get(wanted)
        if specs is None:
            if len(self._made) >= _KEPT:
                self._made.clear()
            specs = self._made[wanted] = self._find(endpoint, meant, certify)
        return specs

    def _find(
        self, endpoint: Endpoint, meant: tuple[Programme, ...], certify: Certify
    ) -> tuple[StreamSpec, ...]:
        taken: set[int] = set()
        specs = []
        for programme in meant:
            spec = programme.spec(endpoint, self._group_port, certify)
            # The producer draws its SSRCs at random: should two be alike, one programme is heard.
            if spec is not None and taken.isdisjoint({spec.ssrc, *spec.ssrcs}):
                taken |= {spec.ssrc, *spec.ssrcs}
                specs.append(spec)
        return tuple(specs)
