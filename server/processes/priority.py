"""Which process goes first where there are more to run than processors."""

import os
from contextlib import suppress

# Who has to keep a beat: a burst of joins in control, or anybody else's work, shall not delay it.
SENDER, PRODUCER, USHER = -15, -12, -8


def go_before(niceness: int) -> None:
    """Run before processes of ordinary niceness, where this user may (CAP_SYS_NICE)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
