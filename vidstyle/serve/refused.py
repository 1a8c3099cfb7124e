"""A request that is answered with an error."""

from __future__ import annotations

from collections.abc import Mapping

from vidstyle.errors import VidstyleError


class Refused(VidstyleError):
    """What a client asked for cannot be had; the sentence says why and goes into the answer."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        """HTTP status, 400 or more."""
        self.headers = dict(headers or {})
        """Headers of the answer, such as Retry-After."""
