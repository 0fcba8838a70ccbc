"""The state as the API shows it: plain rows. Pure; `now` is an argument."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from codec.format import SAMPLE_RATE
from server.directory import Endpoint
from server.enrolment import Enrolment
from server.errors import StationError
from server.pace import offline_ns
from server.processes.bus import LATENESS_BOUNDS_US, SenderReport, UsherReport
from server.programmes import Programme
from server.speakers import Speaker
from server.station import Station
from server.stepping import Step, Steps
from transport.clock.timeline import NS_PER_SECOND
from transport.control.messages import Telemetry
from transport.control.priority import Priority
from transport.recovery.erasure import Code
from transport.security.keys import shown_fingerprint
from transport.session.sender import OPUS_PAYLOAD_TYPE

# Further from its place than this a loudspeaker is heard beside its neighbours.
_IN_STEP_US = 1000.0
_NO_STEPS = Steps()
# A loudspeaker is given so long to hear of a programme, and to say so.
_BEGINS_S = 3.0


def speaker_rows(
    station: Station,
    names: Iterable[str],
    last_seen: Mapping[str, int],
    now_ns: int,
    steps: Steps = _NO_STEPS,
) -> list[dict[str, Any]]:
    """Those of these loudspeakers that are registered; `last_seen` in UTC seconds, of the store.

    `steps` is how far they are out of step with their neighbours.
    """
    found = (station.directory.endpoints.get(name) for name in names)
    return [
        _speaker_row(station, e, last_seen.get(e.name), now_ns, steps.by_name.get(e.name))
        for e in found
        if e is not None
    ]


def _speaker_row(
    station: Station, endpoint: Endpoint, stored_s: int | None, now_ns: int, step: Step | None
) -> dict[str, Any]:
    speaker = station.speakers.get(endpoint.name)
    seen_ns = stored_s * NS_PER_SECOND if stored_s is not None else None
    if speaker is not None:
        seen_ns = speaker.last_seen_ns
    online = is_online(speaker, now_ns)
    programme = station.heard_by(endpoint.name) if online else None
    telemetry = speaker.telemetry if speaker is not None else None
    position = endpoint.position
    row: dict[str, Any] = {
        "name": endpoint.name,
        "unit": endpoint.unit,
        "tags": sorted(endpoint.tags),
        "position": position and {"latitude": position.latitude, "longitude": position.longitude},
        "delivery": endpoint.delivery,
        "multicast": endpoint.multicast,
        "volume": endpoint.volume,
        "muted": endpoint.muted,
        "trim_us": endpoint.trim_us,
        "enrolled": endpoint.key is not None,
        "clear": endpoint.clear,
        "authenticated": not endpoint.clear and not (online and _hears_in_clear(telemetry)),
        "state": _state(endpoint, speaker, online=online),
        "address": speaker.address if speaker is not None else None,
        "last_seen_s": seen_ns and round(max(now_ns - seen_ns, 0) / NS_PER_SECOND, 1),
        "in_step": _in_step(programme, endpoint, telemetry, step) if online else None,
        "step_error_us": step.error_us if online and step is not None else None,
        "step_neighbours": step.neighbours if online and step is not None else 0,
        "fault": _fault(programme, telemetry, step) if online else _missing(endpoint),
    }
    return row | ({} if telemetry is None else _figures(telemetry))


def state_of(station: Station, endpoint: Endpoint, now_ns: int) -> str:
    """What a loudspeaker's row says of its state."""
    speaker = station.speakers.get(endpoint.name)
    return _state(endpoint, speaker, online=is_online(speaker, now_ns))


def _state(endpoint: Endpoint, speaker: Speaker | None, *, online: bool) -> str:
    if endpoint.key is None:
        return "not enrolled"
    if speaker is None or not online:
        return "offline"
    return speaker.telemetry.state if speaker.telemetry is not None else "syncing"


def _hears_in_clear(telemetry: Telemetry | None) -> bool:
    return telemetry is not None and not telemetry.authenticated


def _missing(endpoint: Endpoint) -> str:
    if endpoint.key is None:
        return "it has no key here: get a code with `loa enrol`"
    return "it cannot be reached"


def is_online(speaker: Speaker | None, now_ns: int) -> bool:
    """Whether a loudspeaker has been heard of, by how often it was asked to say something."""
    if speaker is None or speaker.session is None:
        return False
    return now_ns - speaker.last_seen_ns < offline_ns(speaker.telemetry_s)


def _fault(programme: Programme | None, telemetry: Telemetry | None, step: Step | None) -> str:
    """What is wrong with a loudspeaker that can be reached, in one line; or nothing.

    It is to hear this programme.
    """
    if telemetry is None or telemetry.fault:
        return "" if telemetry is None else telemetry.fault
    if step is not None and step.is_out:
        return step.fault
    if programme is None or programme.report is None or telemetry.hearing:
        return ""
    since_s = min(programme.report.seconds, telemetry.uptime_s)
    if since_s < programme.plan.slowest_ms / 1000 + _BEGINS_S:
        return ""
    return f"it hears nothing of {programme.name}: does its network carry the sound?"


def _in_step(
    programme: Programme | None,
    endpoint: Endpoint,
    telemetry: Telemetry | None,
    step: Step | None,
) -> bool:
    if telemetry is None or telemetry.state == "syncing" or telemetry.fault:
        return False
    if step is not None and step.is_out:
        return False
    quick_enough = programme is None or programme.is_in_step(endpoint)
    return quick_enough and telemetry.sync_error_us < _IN_STEP_US


def _figures(telemetry: Telemetry) -> dict[str, Any]:
    expected = telemetry.packets_received + telemetry.packets_lost
    return {
        "hearing": telemetry.hearing,
        "way": telemetry.way,
        "level_dbfs": telemetry.level_dbfs,
        "sync_error_us": telemetry.sync_error_us,
        "clock_uncertainty_us": telemetry.clock_uncertainty_us,
        "loss": round(telemetry.packets_lost / expected, 6) if expected else 0.0,
        "missed": round(telemetry.packets_missed / expected, 6) if expected else 0.0,
        "packets_received": telemetry.packets_received,
        "packets_lost": telemetry.packets_lost,
        "packets_late": telemetry.packets_late,
        "packets_missed": telemetry.packets_missed,
        "packets_dropped": telemetry.packets_dropped,
        "recent_loss": telemetry.loss,
        "longest_burst_ms": telemetry.longest_burst_ms,
        "jitter_ms": telemetry.jitter_ms,
        "underruns": telemetry.underruns,
        "uptime_s": telemetry.uptime_s,
    }


def code_rows(enrolment: Enrolment, now_ns: int) -> list[dict[str, Any]]:
    """The codes that nobody has used; no secrets."""
    now_s = now_ns // NS_PER_SECOND
    return [
        {
            "number": code.number.hex(),
            "name": code.name,
            "unit": code.unit,
            "expires_in_s": code.expires_s - now_s,
            "in_use": enrolment.is_held(code),
        }
        for code in enrolment.codes
        if code.expires_s > now_s or enrolment.is_held(code)
    ]


def waiting_rows(enrolment: Enrolment, now_ns: int) -> list[dict[str, Any]]:
    """Loudspeakers that wait to be approved."""
    return [
        {
            "key": shown_fingerprint(waiting.key),
            "name": waiting.wish,
            "unit": waiting.code.unit,
            "address": waiting.address,
            "waits_s": round(max(now_ns - waiting.since_ns, 0) / NS_PER_SECOND, 1),
        }
        for waiting in enrolment.waiting
    ]


def programme_rows(station: Station) -> list[dict[str, Any]]:
    """Each programme's state; tickets stay secret."""
    interrupted = _interrupted(station)
    return [
        _programme_row(station, programme, interrupted.get(programme.name, 0))
        for programme in station.programmes.values()
    ]


def _interrupted(station: Station) -> dict[str, int]:
    """At how many of its loudspeakers a programme that is live gives way to a louder one."""
    taken: set[str] = set()
    counts = {}
    for programme, audience in station.ranked():
        if programme.is_live:
            counts[programme.name] = len(audience & taken)
            taken |= audience
    return counts


def _programme_row(station: Station, programme: Programme, interrupted_at: int) -> dict[str, Any]:
    audience = station.audience(programme)
    report = programme.report
    state = "waiting" if report is None else report.state
    return {
        "name": programme.name,
        "to": list(programme.request.to),
        "zones": list(programme.request.zones),
        "priority": Priority(programme.priority).name.lower(),
        "state": "ended" if programme.ended_at_ns is not None else state,
        "seconds": 0.0 if report is None else report.seconds,
        "level_dbfs": None if report is None else report.level_dbfs,
        "playout_delay_ms": programme.plan.playout_delay_ms,
        "frames_ms": list(programme.plan.frames_ms),
        "copies_ms": [_lengths_ms(stream.copies) for stream in programme.streams],
        "codes": [_code(stream.code) for stream in programme.streams],
        "speakers": len(audience),
        "interrupted_at": interrupted_at,
        "not_in_step": _not_in_step(station, programme, audience),
        "test": programme.request.test,
        "authenticated": not programme.clear,
        "sdp": sdp_path(programme),
    }


def _code(code: Code | None) -> list[int] | None:
    """Frames and symbols of a block."""
    return None if code is None else [code.frames, code.symbols]


def _lengths_ms(samples: Iterable[int]) -> list[float]:
    return [count * 1000 / SAMPLE_RATE for count in samples]


def _not_in_step(station: Station, programme: Programme, audience: Iterable[str]) -> list[str]:
    if not programme.too_slow:
        return []
    endpoints = station.directory.endpoints
    return sorted(name for name in audience if not programme.is_in_step(endpoints[name]))


def sdp_path(programme: Programme) -> str | None:
    """Where a stock player finds the description of what goes out in clear."""
    return f"/programmes/{programme.name}.sdp" if programme.clear else None


def key_row(station: Station, programme: Programme) -> dict[str, Any]:
    """What a stock player must know to open each encoding now: numbers, and keys in hexadecimal.

    `group` is None where a stream goes by unicast alone. StationError before it has begun.
    """
    group = programme.group if station.uses_group(programme) else None
    streams = []
    for order in programme.streams:
        numbers = programme.numbers(order.stream)
        if numbers is None:
            raise StationError(f"{programme.name} has not started yet: try again in a moment")
        by_group = group is not None and order == programme.streams[0]
        streams.append(
            {
                "frame_ms": order.frame_ms,
                "payload_type": OPUS_PAYLOAD_TYPE,
                "timestamp_offset": numbers.timestamp_offset,
                "group": group if by_group else None,
                "port": station.group_port if by_group else None,
                "epoch": numbers.sounding.number,
                "ssrc": f"{numbers.sounding.ssrc:08x}",
                "key": numbers.sounding.key.hex(),
            }
        )
    return {"programme": programme.name, "streams": streams}


def sender_row(reports: Mapping[int, SenderReport]) -> dict[str, Any]:
    """What all senders together have done; `reports` by shard. Nothing before the first."""
    if not reports:
        return {}
    there = list(reports.values())
    return {
        "datagrams": sum(report.datagrams for report in there),
        "overruns": sum(report.overruns for report in there),
        "errors": sum(report.errors for report in there),
        "stale": sum(report.stale for report in there),
        "queue": sum(report.queue for report in there),
        "late_p99_ms": _late_ms(0.99, there),
        "late_max_ms": max(report.late_max_us for report in there) / 1000,
    }


def _late_ms(share: float, reports: Sequence[SenderReport]) -> float | None:
    """No later than this left that share of all datagrams, so far as the bounds tell.

    None before the first; where it lies beyond the last bound, the latest of all.
    """
    counts = [sum(of_all) for of_all in zip(*(report.lateness for report in reports), strict=True)]
    wanted = share * sum(counts)
    if not wanted:
        return None
    so_far = accumulate(counts)
    latest_us = max(report.late_max_us for report in reports)
    bounds_us = (*LATENESS_BOUNDS_US, latest_us)
    bound_us = next(us for us, n in zip(bounds_us, so_far, strict=True) if n >= wanted)
    return min(bound_us, latest_us) / 1000


def usher_row(report: UsherReport | None) -> dict[str, Any]:
    """What the usher has done; nothing before its first report."""
    if report is None:
        return {}
    return {
        "time_answers": report.time_answers,
        "malformed": report.malformed,
        "refused": report.refused,
        "dropped": report.dropped,
        "paths": report.paths,
        "receivers_reporting": report.receivers,
        "worst_fraction_lost": report.worst_fraction_lost,
    }
