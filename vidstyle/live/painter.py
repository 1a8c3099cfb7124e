"""Live frames of any form painted in one form, with the look and at the work size of the moment."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vidstyle.frame import Frame, FrameFormat
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, LookOptions, SmoothOptions
from vidstyle.scheduler import FrameScheduler
from vidstyle.stylizer import FrameTask, work_size
from vidstyle.video.convert import FrameConverter, Place, cut_out, place_in, put_in


@dataclass(frozen=True)
class Request:
    """A frame to be painted."""

    taken: Frame
    """As it came from the source."""
    source: Frame
    """In the form of the painter, on black where its shape is another."""
    place: Place | None
    """Where the picture lies in it then."""
    task: FrameTask
    """For the network. Around a picture of another shape it sees the picture's mirror image: black would change the
    colors of the painting."""


@dataclass(frozen=True)
class Painting:
    """A painted frame, and what it was painted from; both of one form, black where the picture does not reach."""

    painted: Frame
    request: Request

    @property
    def source(self) -> Frame:
        """The frame that was painted."""
        return self.request.source


class Painter(FrameScheduler[Request]):
    """A `FrameScheduler` for one stream of frames whose shape may change."""

    def __init__(
        self,
        style: Style,
        form: FrameFormat,
        *,
        look: LookOptions,
        smooth: SmoothOptions | None = None,
        backend: BackendOptions | None = None,
    ) -> None:
        super().__init__(look=look, smooth=smooth, backend=backend)
        self._engine = style.engine
        if style.engine is not None:
            card = style.engine.card
            form = replace(form, pixels=card.pixels, matrix=card.matrix, full_range=card.full_range)
        self.form = form
        """Of the paintings: that of the source, in the colors that an engine was built for."""
        self._conformer = FrameConverter(form)

    @property
    def work_size(self) -> int:
        """Rows at which the network sees a frame."""
        return work_size(self.form.size, self.look.work_size, self._engine)[0]

    def request(self, frame: Frame, style: Style, strength: float) -> Request:
        """What is to be done with ``frame``: the style and look of this moment."""
        source, place = self._conformer.conform(frame), place_in(frame.form.size, self.form.size)
        whole = source
        if place is not None:
            whole = source.with_planes(put_in(cut_out(source.planes, place), place, self.form, "mirrored"))
        return Request(frame, source, place, self.prepare(whole, style, strength))

    def paint(self, request: Request) -> None:
        """Begin to paint; only where the painter is not `is_full`."""
        self.start(request.task, request)

    def painting(self) -> Painting:
        """Wait for the painting that was begun first."""
        request, painted = self.finish()
        if request.place is not None:
            painted = painted.with_planes(put_in(cut_out(painted.planes, request.place), request.place, self.form))
        return Painting(painted, request)
