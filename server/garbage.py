"""Collects garbage so that thousands of sessions are not looked through for it again and again.

A session has 120 objects that the collector tracks. 10,000 of them take it half a second, in which
nobody is heard; they hold no rings, and are gone with their last reference (measured: of 200 that
had ended it found nothing, nor of 120 connections of callers that had lived six seconds). So what
has lived a second is looked at no more, but for once a day.
"""

import asyncio
import gc

_EVERY_S = 1.0
_TIMES_A_DAY = 86_400


def collect_young() -> None:
    """What has come since the last time; what of it is alive counts as old from now on."""
    gc.collect()
    gc.freeze()


def collect_all() -> None:
    """Also what was old already."""
    gc.unfreeze()
    collect_young()


async def collect_for_ever() -> None:
    """The young each second, and all of it each day."""
    while True:
        for _ in range(_TIMES_A_DAY):
            await asyncio.sleep(_EVERY_S)
            collect_young()
        collect_all()
