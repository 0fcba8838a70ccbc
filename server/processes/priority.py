"""Which process goes first where there are more to run than processors."""

import os
from contextlib import suppress

# A burst of joins in control, or anybody else's work, shall not delay these.
PRODUCER, USHER = -12, -8
# With senders on all processors, control must yet be heard: a station that has more to send than it
# can is to be stopped by somebody.
_SENDER_AMONG_OTHERS = -5


def go_before(niceness: int) -> None:
    """Run before processes of ordinary niceness, where this user may (RLIMIT_NICE)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


def keep_the_beat(senders: int) -> None:
    """Run whenever there is something to do, where this user may (RLIMIT_RTPRIO).

    Not so where so many `senders` leave no processor to others.

    Niceness shares a processor out over milliseconds, which is too coarse for a sender: p99 of
    its lateness was 20 ms by it, 4 ms by this, with 4,000 destinations and both processors busy.
    The kernel leaves others a twentieth of the time whatever happens (sched_rt_runtime_us).
    """
    go_before(_SENDER_AMONG_OTHERS)
    if senders >= (os.cpu_count() or 1):
        return
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
