"""The window with the live picture, its figures and its keys."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

from vidstyle.live.canvas import draw
from vidstyle.live.controls import Controls
from vidstyle.live.overlay import Overlay, Status
from vidstyle.live.painter import Painting
from vidstyle.live.window import Window

_FIGURES_SECONDS = 0.25
"""How often the figures change: nobody reads faster."""
_MESSAGE_SECONDS = 3.0


class Screen:
    """Draws paintings into a window. A context manager; use it from the main thread."""

    def __init__(self, title: str, picture_size: tuple[int, int], *, full_screen: bool = False) -> None:
        """Open the window. Raises `VideoError` where there is no display."""
        self.window = Window(title, picture_size, full_screen=full_screen)
        self._overlay = Overlay()
        self._status = Status()
        self._figures_at = float("-inf")
        self._message, self._message_until = "", float("-inf")

    def say(self, message: str, now: float) -> None:
        """Show ``message`` for some seconds."""
        self._message, self._message_until = message, now + _MESSAGE_SECONDS

    def refresh(self) -> None:
        """Have new figures with the next picture."""
        self._figures_at = float("-inf")

    def wants_figures(self, now: float) -> bool:
        """Whether it is time for new figures."""
        return now - self._figures_at >= _FIGURES_SECONDS

    def figures(self, status: Status, now: float) -> None:
        """Show those figures until others come."""
        self._status, self._figures_at = status, now

    def show(self, painting: Painting | None, controls: Controls, now: float) -> list[str]:
        """Put ``painting``, if there is one, on the screen, and return the keys pressed until then."""
        window = self.window
        window.full_screen = controls.full_screen
        if painting is not None and window.is_open:
            bgr = draw(painting.painted, painting.source, window.size, view=controls.view, mirror=controls.mirror)
            message = self._message if now < self._message_until else ""
            status = replace(self._status, title=controls.title, message=message, help=controls.help)
            self._overlay.draw(bgr, status)
            window.show(bgr)
        return window.keys()

    def keys(self) -> list[str]:
        """Keys pressed while nothing new is shown."""
        return self.window.keys()

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.window.close()
