"""A look at an uploaded video before it becomes a job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from vidstyle.serve.child import Child
from vidstyle.serve.refused import Refused
from vidstyle.serve.wishes import Wishes


async def frames_of_video(folder: Path, wishes: Wishes, seconds: float) -> int | None:
    """How many frames the video in ``folder`` has, as far as it says.

    A worker looks, for at most so many ``seconds``: what decodes may crash, or never end. `Refused` (413, 415, 503)
    where it is no video that may be rendered.
    """
    refused = Refused(415, f"{wishes.label} cannot be looked at, it seems to be damaged; convert it first")
    try:
        wishes.write(folder)
        child = await Child.start("probe", folder)
    except OSError as error:
        raise Refused(503, f"the server cannot work: {error.strerror}", {"Retry-After": "600"}) from error
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds):
            async for line in child.lines(seconds):
                found = line
    except (TimeoutError, ValueError) as error:
        raise refused from error
    finally:
        child.kill()
        await child.ended()
    if isinstance(found.get("error"), str):
        raise Refused(413 if found.get("too_much") is True else 415, found["error"])
    if found.get("done") is not True:
        raise refused
    frames = found.get("frames")
    return frames if isinstance(frames, int) and 0 < frames < 1 << 40 else None
