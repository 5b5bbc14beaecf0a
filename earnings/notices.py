"""News of seals inside this process. In: `publish` after a commit. Out: whoever waits looks into the book again.

Nothing is queued: the book is the queue and a subscriber remembers only the last number it sent, so a slow one costs nothing.
"""

from __future__ import annotations

import asyncio


class Notices:
    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self.version = 0

    async def publish(self) -> None:
        async with self._changed:
            self.version += 1
            self._changed.notify_all()

    async def wait(self, seen: int, *, timeout_s: float) -> bool:
        """True as soon as `version` is past `seen`, False after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.version > seen)
        except TimeoutError:
            return False
        return True
