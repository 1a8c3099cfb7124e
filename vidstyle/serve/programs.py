"""The compiled networks of a server: one for each network and form, made off the painting thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from vidstyle.frame import FrameFormat
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions
from vidstyle.stylizer import Stylizer

Key: TypeAlias = tuple[str, FrameFormat]
_SPARE = 2
"""Programs that stay though nobody is painted with them: the next visitor often has the same camera."""


def key_of(style: Style, form: FrameFormat) -> Key:
    """What tells the program for ``style`` and ``form`` from others."""
    return style.network_name, form


class Programs:
    """Stylizers, each for frames of one form. All but the compilation is for one thread."""

    def __init__(self, backend: BackendOptions) -> None:
        self._backend = backend
        self._ready: OrderedDict[Key, Stylizer] = OrderedDict()
        self._coming: dict[Key, Future[Stylizer]] = {}
        self._workers = ThreadPoolExecutor(1, "vidstyle-compile")

    def get(self, style: Style, form: FrameFormat) -> Stylizer | None:
        """The program for ``style`` and ``form``; None while it is compiled, which this begins.

        Raises what `Stylizer.open` raises.
        """
        key = key_of(style, form)
        ready = self._ready.get(key)
        if ready is not None:
            self._ready.move_to_end(key)
            return ready
        coming = self._coming.get(key)
        if coming is None:
            self._coming[key] = self._workers.submit(self._compiled, style, form)
            return None
        if not coming.done():
            return None
        del self._coming[key]
        ready = self._ready[key] = coming.result()
        return ready

    def compile(self, style: Style, form: FrameFormat) -> str:
        """Have the program for ``style`` and ``form`` now; returns what runs it, for people."""
        stylizer = self._ready[key_of(style, form)] = self._compiled(style, form)
        return stylizer.open(form).description

    def trim(self, in_use: Collection[Key]) -> None:
        """Free what is not in use, but for the newest few."""
        unused = [key for key in self._ready if key not in in_use]
        for key in unused[: max(0, len(unused) - _SPARE)]:
            self._ready.pop(key).close()

    def __len__(self) -> int:
        return len(self._ready)

    def close(self) -> None:
        """Free everything. Closing twice is fine."""
        self._workers.shutdown(cancel_futures=True)
        for coming in self._coming.values():
            if not coming.cancelled() and coming.exception() is None:
                coming.result().close()
        self._coming.clear()
        while self._ready:
            self._ready.popitem()[1].close()

    def _compiled(self, style: Style, form: FrameFormat) -> Stylizer:
        stylizer = Stylizer(style, backend=self._backend)
        stylizer.open(form)
        return stylizer
