"""A `Stylizer` for arrays and frames; `vidstyle.rendering` takes it through whole videos."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidstyle._renamed import renamed_method
from vidstyle.errors import BadOption
from vidstyle.files import cache_key
from vidstyle.frame import Frame, FrameFormat, Planes, as_rgb
from vidstyle.gallery import DEFAULT_STYLE, load_blend
from vidstyle.imaging import resample
from vidstyle.models.architecture import Architecture, Network
from vidstyle.models.style import Style
from vidstyle.options import MAX_SIDE, STROKE_SIZE, BackendOptions, LookOptions, SmoothOptions, check_kind, check_whole
from vidstyle.pipeline import Closing

if TYPE_CHECKING:
    from vidstyle.backends.base import Backend, Program, Tensors
    from vidstyle.imaging.smoothing import Motion, Smoother
    from vidstyle.masks.mask import Mask
    from vidstyle.models.engine_file import EngineFile

_NO_TIME = Fraction(1, 1000)
_CALIBRATION = FrameFormat(height=360, width=640)
"""Frames on which the ranges of 8-bit integers are measured."""


@dataclass(frozen=True)
class FrameTask:
    """A frame on its way through a `Stylizer`."""

    frame: Frame
    """The source at the size of the result."""
    work: Frame
    """What the network sees: the same frame, or a smaller one (`LookOptions.work_size`)."""
    style: Style
    """The style of this very frame: it may change from one frame to the next."""
    look: LookOptions
    smoothing: tuple[Smoother, Motion | None] | None = None
    """The smoother, and the motion that it found in the source, where `Stylizer.estimate_motion` was called."""
    mask: NDArray[np.uint8] | None = None
    """Where it is painted, uint8 (height, width); None leaves it to `look`."""
    elsewhere: Style | None = None
    """The style outside of the mask; None is the source."""


class Stylizer(Closing):
    """Paints pictures and frames in one style (or a blend).

    >>> painted = Stylizer("starry_night")(rgb)

    ``style`` is a shipped name, a style file, an engine file, a blend such as
    ``"great_wave:0.7,the_scream:0.3"`` or a `Style`. A graph is compiled at the first frame of each form
    and kept; it plays every style of the network. With ``fixed`` the style will not change: some backends are
    faster then. ``look`` may be replaced at any time; a frame under way keeps its own. With ``smooth`` the
    frames are those of one video, and each is made to go with the one before. Use it from one thread;
    `open` and `prepare` alone may run on any, and so may `finish`, one frame at a time and in order.
    Copied, pickled or used in a forked process it compiles its graphs anew.
    """

    max_programs = 4
    """Compiled programs that are kept: a folder of stills of many sizes must not fill the memory."""

    def __init__(
        self,
        style: str | Path | Style | None = None,
        *,
        look: LookOptions | None = None,
        backend: BackendOptions | None = None,
        smooth: SmoothOptions | None = None,
        fixed: bool = False,
    ) -> None:
        check_kind("look", look, LookOptions)
        check_kind("backend", backend, BackendOptions)
        self._style = as_style(style)
        self._engine = self._style.engine
        self._look = look or LookOptions()
        self._elsewhere: Style | None = None
        self._fixed = fixed and self._look.elsewhere is None
        self._choose_elsewhere(self._look.elsewhere)
        self._options = backend or BackendOptions()
        self._open: OrderedDict[FrameFormat, Backend] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._smoother: Smoother | None = None
        self._smoother_elsewhere: Smoother | None = None
        self._mask: tuple[str, FrameFormat, Mask] | None = None
        self.mask_begins: Fraction | None = None
        """Second of the frames' clock at which a mask that is a video begins; its last picture then stays. None is
        the first frame, and the video is played over and over."""
        self.smooth = smooth

    @property
    def style(self) -> Style:
        """The style of the next frame. Any style of the same network may be set at any time."""
        return self._style

    @style.setter
    def style(self, style: str | Path | Style) -> None:
        chosen = as_style(style)
        if chosen.architecture != self._style.architecture:
            raise BadOption(
                f"style {chosen.name!r} runs on another network than {self._style.name!r}; make a new Stylizer for it"
            )
        if self._fixed and chosen.parts != self._style.parts:
            raise BadOption(f"this Stylizer was made for {self._style.name!r} alone (fixed); make one without that")
        self._style = chosen

    @property
    def look(self) -> LookOptions:
        """How frames are finished, from the next one on; may be set at any time."""
        return self._look

    @look.setter
    def look(self, look: LookOptions) -> None:
        check_kind("look", look, LookOptions, needed=True)
        if look.elsewhere != self._look.elsewhere:
            self._choose_elsewhere(look.elsewhere)
        self._look = look

    def _choose_elsewhere(self, name: str | None) -> None:
        style = None if name is None else as_style(name)
        if style is not None and style.architecture != self._style.architecture:
            raise BadOption(
                f"style {style.name!r} (elsewhere) runs on another network than {self._style.name!r}; take two of one"
            )
        if style is not None and self._fixed:
            raise BadOption(f"this Stylizer was made for {self._style.name!r} alone (fixed); make one without that")
        self._elsewhere = style

    @property
    def smooth(self) -> SmoothOptions | None:
        """How strongly frames are made to go with the one before; may be set at any time."""
        return self._smooth

    @smooth.setter
    def smooth(self, smooth: SmoothOptions | None) -> None:
        check_kind("smooth", smooth, SmoothOptions)
        self._smooth = smooth if smooth is not None and smooth.strength > 0 else None
        if self._smooth is None:
            self._smoother = None
        elif self._smoother is not None:
            self._smoother.adjust(self._smooth)

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The stylized picture: uint8 RGB of shape (height, width, 3), like ``rgb``; a new array.

        ``rgb`` may be read-only and have any strides, and be anything that NumPy takes for such an array, as a PIL
        image in RGB; `BadOption` says how to make one of another picture.
        """
        rgb = as_rgb(rgb)
        form = FrameFormat(height=rgb.shape[0], width=rgb.shape[1], pixels="rgb")
        job = self.prepare(Frame((rgb,), form, 0, _NO_TIME))
        painted = self.finish(job, self.submit(job)()).planes[0]
        return np.array(painted) if np.may_share_memory(painted, rgb) else painted

    @property
    def engine(self) -> EngineFile | None:
        """The engine file that paints, if the style came out of one."""
        return self._engine

    def open(self, form: FrameFormat, work_size: int | None = None) -> Backend:
        """The compiled program for frames of ``form``, painted at ``work_size`` rows or as `look` says.

        `submit` calls it; call it yourself, on any thread, to have the compilation behind you, or to see
        what runs.
        """
        check_kind("form", form, FrameFormat, needed=True)
        if work_size is not None:
            check_whole("work size", work_size, 1, MAX_SIDE)
        return self._program(form.resized(self.work_size(form, work_size)))

    def _program(self, work_form: FrameFormat) -> Backend:
        self._forget_inherited()
        with self._lock:
            known = self._open.get(work_form)
            if known is not None:
                self._open.move_to_end(work_form)
                return known
        compiled = self._compiled(work_form)  # without the lock: frames of other forms go on meanwhile
        with self._lock:
            backend = self._open.setdefault(work_form, compiled)
            oldest = self._open.popitem(last=False)[1] if len(self._open) > self.max_programs else None
        for unneeded in (oldest, compiled if backend is not compiled else None):
            if unneeded is not None:
                unneeded.close()
        return backend

    def is_open(self, form: FrameFormat, work_size: int | None = None) -> bool:
        """Whether `open` has the program for frames of ``form`` at once. Safe on any thread."""
        self._forget_inherited()
        with self._lock:
            return form.resized(self.work_size(form, work_size)) in self._open

    def free_unused(self, in_use: Collection[FrameFormat], *, spare: int) -> None:
        """Free all programs but those for forms ``in_use`` and the ``spare`` ones that were used last."""
        with self._lock:
            unused = [form for form in self._open if form not in in_use]
            oldest = [self._open.pop(form) for form in unused[: max(0, len(unused) - spare)]]
        for backend in oldest:
            backend.close()

    def compiled_for(self, style: Style, form: FrameFormat) -> Backend:
        """A program of its own for ``style`` alone and frames of the work size ``form``. Safe on any thread."""
        from vidstyle.backends import open_backend

        return open_backend(network_program(style.architecture, form, only=style.network), self._options)

    def _compiled(self, form: FrameFormat) -> Backend:
        program = network_program(self._style.architecture, form, only=self._style.network if self._fixed else None)
        if self._engine is None:
            from vidstyle.backends import open_backend

            return open_backend(program, self._options)
        from vidstyle.backends.tensorrt import open_engine

        if self._options.rebuild:
            from vidstyle.engine.build import fitting_engine

            self._engine = fitting_engine(self._engine, form, self._options)
        return open_engine(self._engine, program, self._options)

    def prepare(self, frame: Frame) -> FrameTask:
        """Make the picture that the network sees, and note the style of this moment. Safe on any thread."""
        check_kind("frame", frame, Frame, needed=True)
        form, look = frame.form, self.look
        size = self.work_size(form, look.work_size)
        work = frame
        if size != form.size:
            work = frame.with_planes(resample.resize(frame.planes, form, size), form.resized(size))
        return FrameTask(frame, work, self._style, look, elsewhere=self._elsewhere)

    def estimate_motion(self, job: FrameTask) -> FrameTask:
        """Do what smoothing and the mask need of the source alone, so that `finish` has less to do. For every frame,
        in order, on one thread, or for none. What ``job`` has already stays."""
        if job.look.mask is not None and job.mask is None:
            job = replace(job, mask=self.open_mask(job.frame.form, job.look.mask).at(job.frame))
        if self._smooth is None or job.smoothing is not None:
            return job
        smoother = self._smoother_of(job.work.form, self._smooth)
        return replace(job, smoothing=(smoother, smoother.estimate_motion(job.work.planes, job.style.parts)))

    def begin_scene(self) -> None:
        """Have smoothing and the mask begin anew: the next frame goes with none before."""
        self._smoother = None
        if self._mask is not None:
            self._mask[2].reset()

    def open_mask(self, form: FrameFormat, name: str) -> Mask:
        """The mask ``name``, as `LookOptions.mask` has it, for frames of ``form``: opened now, or the one in use.

        `estimate_motion` and `finish` call it; call it before to have it behind you. Raises `BadOption`, `ImageError`
        or `VideoError` where there is no such mask.
        """
        self._forget_inherited()
        if self._mask is None or self._mask[:2] != (name, form):
            from vidstyle.masks.mask import open_mask

            if self._mask is not None:
                self._mask[2].close()
                self._mask = None
            self._mask = name, form, open_mask(name, form, self._options, self.mask_begins)
        return self._mask[2]

    def frames_in_flight(self, program: Backend) -> int:
        """How many frames `submit` may have under way at once on ``program``."""
        return max(1, program.in_flight // (1 if self._elsewhere is None else 2))

    def submit(self, job: FrameTask) -> Callable[[], Planes]:
        """Start the network on a prepared frame; the function returned waits for its planes.

        Where there is a style elsewhere, the planes of that one follow.
        """
        program, planes = self._program(job.work.form), job.work.planes
        if job.elsewhere is None:
            return program.submit(planes, job.style)
        if program.in_flight < 2:
            painted = program.submit(planes, job.style)()
            pending = program.submit(planes, job.elsewhere)
            return lambda: (*painted, *pending())
        first, second = program.submit(planes, job.style), program.submit(planes, job.elsewhere)
        return lambda: (*first(), *second())

    def finish(self, job: FrameTask, styled: Planes) -> Frame:
        """The finished frame from what the network made of it."""
        job = self.estimate_motion(job)
        frame, look, mask, count = job.frame, job.look, job.mask, len(job.frame.planes)
        painted, strength = self._at_full_size(job, styled[:count], None), look.strength
        if job.elsewhere is not None:
            other = self._at_full_size(job, styled[count:], self._smoother_elsewhere)
            painted, mask = resample.mix(other, painted, 1.0, mask), None
        return frame.with_planes(resample.mix(frame.planes, painted, strength, mask))

    def _at_full_size(self, job: FrameTask, styled: Planes, smoother: Smoother | None) -> Planes:
        """What the network made, smoothed, at the size and in the colors of the result."""
        frame, form = job.frame, job.frame.form
        if job.smoothing is not None:
            styled = (smoother or job.smoothing[0]).blend(styled, job.smoothing[1])
        if job.work is not job.frame:
            styled = resample.enlarge(styled, job.work.planes, frame.planes, job.work.form, form)
        return resample.keep_color(frame.planes, styled, form) if job.look.preserve_color else styled

    compose = renamed_method("compose", "finish")
    foresee = renamed_method("foresee", "estimate_motion")

    def _smoother_of(self, form: FrameFormat, smooth: SmoothOptions) -> Smoother:
        from vidstyle.imaging.smoothing import Smoother

        if self._smoother is None or self._smoother.form != form:
            self._smoother, self._smoother_elsewhere = Smoother(form, smooth), Smoother(form, smooth)
        return self._smoother

    def work_size(self, form: FrameFormat, rows: int | None = None) -> tuple[int, int]:
        """Height and width at which frames of ``form`` are painted, for a work size of ``rows`` or that of `look`."""
        return work_size(form.size, rows or self.look.work_size, self._engine)

    def _forget_inherited(self) -> None:
        """In a forked process: have programs, and a lock, of its own."""
        if self._process != os.getpid():
            self._process, self._lock, self._open, self._mask = os.getpid(), threading.Lock(), OrderedDict(), None

    def __reduce__(self) -> tuple[Callable[[], Stylizer], tuple[()]]:
        again = partial(type(self), self._style, look=self.look, backend=self._options, smooth=self._smooth)
        return partial(again, fixed=self._fixed), ()

    def close(self) -> None:
        """Free the compiled programs. Closing twice is fine."""
        self._forget_inherited()
        if self._mask is not None:
            self._mask[2].close()
            self._mask = None
        while self._open:
            self._open.popitem()[1].close()


def work_size(size: tuple[int, int], rows: int | None = None, engine: EngineFile | None = None) -> tuple[int, int]:
    """Height and width at which frames of ``size`` are painted; see `LookOptions.work_size` for ``rows``.

    An ``engine`` that does not take the size of None gets frames as they are.
    """
    card = None if engine is None else engine.card
    height, width = size
    by_itself = rows is None and min(size) > STROKE_SIZE
    if by_itself:
        rows = round(height * STROKE_SIZE / min(size))
    if rows is None or rows >= height:
        return size
    # A multiple of four in both directions needs no padding inside the graph.
    fitted = max(8, round(rows / 4) * 4)
    smaller = fitted, max(8, round(fitted * width / height / 4) * 4)
    if card is not None and not card.dynamic and card.best[0] == rows and abs(card.best[1] - smaller[1]) <= 4:
        return card.best  # its width was rounded otherwise
    return size if by_itself and card is not None and not card.takes(smaller) else smaller


def work_size_note(size: tuple[int, int], look: LookOptions, engine: EngineFile | None = None) -> str | None:
    """What is to be said where frames of ``size`` are painted smaller though nobody asked for a work size."""
    rows = work_size(size, look.work_size, engine)[0]
    if look.work_size is not None or rows == size[0]:
        return None
    return f"painted at {rows} of {size[0]} rows, so that strokes can be seen; --work-size {size[0]} paints every row"


def network_program(shape: Architecture, form: FrameFormat, *, only: Network | None = None) -> Program:
    """What a backend compiles to paint frames of ``form`` in any style of ``shape``; or in ``only`` that one."""
    from vidstyle.backends.base import Int8Program, Program

    # What writes graphs is imported where one is written: a program that was compiled before is known by its recipe.

    def key(*parts: bytes | str) -> str:
        return cache_key(_graph_code(), repr(shape), *parts)

    def tensors(network: Network, *, winograd: bool = False) -> Tensors:
        from vidstyle.graph import style_tensors

        return style_tensors(network, form, winograd=winograd)

    def graph(what: Network | Architecture, form: FrameFormat, **asked: Any) -> bytes:
        from vidstyle.graph import onnx_from_network

        return bytes(onnx_from_network(what, form, **asked).SerializeToString())

    def winograd() -> Program | None:
        from vidstyle.graph import winograd_axis

        if winograd_axis(shape, form) is None:
            return None
        return Program(
            shape,
            form,
            lambda precision: graph(shape, form, precision=precision, winograd=True),
            lambda network: tensors(network, winograd=True),
            key(repr(form), "winograd"),
        )

    single = int8 = None
    if only is not None:
        own = only.digest
        single = Program(
            shape,
            form,
            lambda precision: graph(only, form, precision=precision),
            lambda network: {"style": network.start[None]},
            key(own, repr(form)),
        )
        if form.pixels != "rgb":  # measuring takes a second, which a still is not worth
            int8 = Int8Program(
                only.start[None],
                _calibration_frames,
                lambda ranges: graph(only, _CALIBRATION, ranges=ranges),
                lambda ranges: graph(only, form, ranges=ranges),
                key(own, only.start.tobytes()),
            )
    recipe = key(repr(form))
    return Program(
        shape, form, lambda precision: graph(shape, form, precision=precision), tensors, recipe, single, int8, winograd
    )


@cache
def _graph_code() -> bytes:
    """What writes graphs, and knows of colors and shapes: other code writes other graphs."""
    package = Path(__file__).parent
    files = [*sorted((package / "graph").glob("*.py")), package / "frame.py", package / "models" / "architecture.py"]
    return b"".join(path.read_bytes() for path in files)


def _calibration_frames() -> list[Planes]:
    """The shipped photos, as the frames that networks paint most often."""
    from vidstyle.data import PHOTO_PATHS
    from vidstyle.imaging.image_io import read_still

    pictures = [read_still(path).rgb for path in PHOTO_PATHS]
    forms = [FrameFormat(height=rgb.shape[0], width=rgb.shape[1]) for rgb in pictures]
    return [resample.resize((rgb,), form, _CALIBRATION.size) for rgb, form in zip(pictures, forms, strict=True)]


def as_style(style: str | Path | Style | None) -> Style:
    """The `Style` that `Stylizer` takes ``style`` for."""
    if isinstance(style, Style):
        return style
    if style is not None and not isinstance(style, str | os.PathLike):
        raise BadOption(f"style is {style!r}; it must be a name, a file, a blend such as 'a:0.7,b:0.3', or a Style")
    return load_blend(DEFAULT_STYLE if style is None else style)
