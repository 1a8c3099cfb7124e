"""The process that does one job: ``python -P -m vidstyle.serve.worker TASK FOLDER``.

It says what it does as JSON lines on its standard output, last either ``{"done": ...}`` or
``{"error": "a sentence"}``, yields to everything else on the machine, and ends with the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from vidstyle.errors import VideoError, VidstyleError
from vidstyle.serve.job import INPUT, LOOK, PREVIEW, STYLE, VIDEO
from vidstyle.serve.wishes import Task, Wishes

if TYPE_CHECKING:
    from vidstyle.models.style import Style
    from vidstyle.video.info import VideoInfo

FAILURE = "failure.txt"
"""Where the traceback of an error stays that nobody foresaw."""
MOST_TRACKS = 32
MOST_FRAMES_A_SECOND = 240
_MEMORY_BYTES = 6 << 30
_FILE_BYTES = 2 << 30
_LINE_SECONDS = 0.25

# Of `vidstyle render`, for those who choose the container; visitors do not.
_ADVICE = re.compile(r"; write to \.\w+ to keep \w+")

Say = Callable[..., None]


class TooMuch(VideoError):
    """A video that is larger or longer than this server takes."""


def main(arguments: list[str]) -> int:
    """Do it; the exit code is 0 whenever the last line says what happened."""
    task, folder = arguments
    say = _voice()
    _end_with_the_server()
    _be_modest()
    wishes = None
    try:
        if task not in get_args(Task):
            raise VidstyleError(f"there is no task {task!r}; there are {', '.join(get_args(Task))}")
        wishes = Wishes.read(Path(folder))
        {"probe": probe_video, "adapt": adapt_style, "render": render_video}[task](Path(folder), wishes, say)
    except TooMuch as error:
        say(error=str(error), too_much=True)
    except VidstyleError as error:
        say(error=_sentence(str(error), Path(folder), wishes))
    except MemoryError:
        say(error=f"it takes more memory than a job may have, {_MEMORY_BYTES >> 30} GiB; give something smaller")
    except Exception as error:
        with contextlib.suppress(OSError):
            Path(folder, FAILURE).write_text(traceback.format_exc()[-20_000:], encoding="utf-8")
        first = (str(error).splitlines() or [""])[0]
        say(error=_sentence(f"the {task} failed ({type(error).__name__}: {first})", Path(folder), wishes))
    return 0


def _sentence(text: str, folder: Path, wishes: Wishes | None) -> str:
    """A message for visitors: they know their file by its label, and the server's folders are not theirs to know."""
    label = "the file" if wishes is None else wishes.label
    text = _ADVICE.sub("", text)
    return text.replace(str(folder / INPUT), label).replace(str(folder) + os.sep, "").replace(str(folder), "the job")


def _voice() -> Say:
    """What writes lines for the server, and for nobody else: libraries that print do so into the void."""
    sys.stdout.flush()
    line = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def say(**facts: Any) -> None:
        line.write(json.dumps(facts, allow_nan=False) + "\n")
        line.flush()

    return say


def _end_with_the_server() -> None:
    """The server holds our input open and writes nothing; when it ends, however that came, the system closes it."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os._exit(3)

    threading.Thread(target=wait, name="vidstyle-worker-end", daemon=True).start()


def _be_modest() -> None:
    import cv2

    cv2.setNumThreads(1)
    if sys.platform == "win32":
        return
    import resource

    from vidstyle.system import nvidia_driver

    os.nice(19)
    limits = [(resource.RLIMIT_FSIZE, _FILE_BYTES), (resource.RLIMIT_CORE, 0)]
    try:
        has_gpu = nvidia_driver() is not None
    except OSError:
        has_gpu = True
    if not has_gpu:  # CUDA reserves addresses by the hundred gigabytes, which costs nothing
        limits.append((resource.RLIMIT_AS, _MEMORY_BYTES))
    for what, most in limits:
        _, hard = resource.getrlimit(what)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def probe_video(folder: Path, wishes: Wishes, say: Say) -> None:
    """Say what the upload is; an error where it is no video that may be rendered here."""
    info = _permitted(folder / INPUT, wishes)
    say(done=True, size=info.size, seconds=info.duration, frames=info.frames)


def _permitted(path: Path, wishes: Wishes) -> VideoInfo:
    """What the video at ``path`` is; `TooMuch` where it is more than is allowed."""
    from vidstyle.video.info import probe

    info = probe(path)
    height, width = info.size
    if height * width > wishes.most_pixels:
        raise TooMuch(
            f"{wishes.label} is {width}x{height}; videos of at most {wishes.most_pixels / 1e6:.3g} megapixels "
            "are rendered here: make it smaller first"
        )
    if info.duration is not None and info.duration > wishes.most_seconds:
        raise TooMuch(
            f"{wishes.label} is {info.duration:.0f} s long; at most {wishes.most_seconds:g} s are rendered here: cut it"
        )
    if len(info.tracks) >= MOST_TRACKS:
        raise TooMuch(f"{wishes.label} has {len(info.tracks) + 1} tracks; at most {MOST_TRACKS} are allowed")
    return info


def render_video(folder: Path, wishes: Wishes, say: Say) -> None:
    """`INPUT` to `VIDEO` in the style `LOOK`, with a `PREVIEW` of its first frame."""
    from vidstyle.models.style import Style
    from vidstyle.options import BackendOptions, LookOptions
    from vidstyle.rendering import Progress, render

    info = _permitted(folder / INPUT, wishes)
    style = Style.load(folder / LOOK)
    say(steps=info.frames, step=0, progress=0.0)
    look, backend = LookOptions(strength=wishes.strength), BackendOptions(threads=1)
    with _Preview(folder, backend=backend, strength=wishes.strength) as preview:
        preview.draw(style, _first_picture(folder / INPUT, wishes.effort.preview_width))
    say(preview=True)
    told = 0.0

    def on_progress(at: Progress) -> None:
        nonlocal told
        # A container may say that it is short, or nothing; what comes out of it is what counts.
        if at.seconds_of_video > wishes.most_seconds + 1:
            raise TooMuch(f"{wishes.label} is longer than {wishes.most_seconds:g} s, the most that is rendered here")
        if at.frames > MOST_FRAMES_A_SECOND * (wishes.most_seconds + 1):
            raise TooMuch(f"{wishes.label} has more than {MOST_FRAMES_A_SECOND} frames a second")
        now = time.monotonic()
        if now - told >= _LINE_SECONDS:
            told = now
            facts: dict[str, object] = {"step": at.frames}
            if at.total:
                facts |= {"steps": max(at.total, at.frames), "progress": min(1.0, at.frames / at.total)}
            say(**facts)

    report = render(folder / INPUT, folder / VIDEO, style, look=look, backend=backend, on_progress=on_progress)
    notes = [f"{report.lost} frames could not be read"] if report.lost else []
    words = "; ".join(_sentence(note, folder, wishes) for note in [*notes, *report.notes])
    say(done=True, step=report.frames, steps=report.frames, message=words)


def _first_picture(path: Path, width: int) -> Any:
    """The first frame of a video, uint8 RGB (height, ``width``, 3) or narrower."""
    from vidstyle.video.reader import VideoReader

    with VideoReader(path, pixels="rgb") as source, contextlib.closing(source.frames()) as frames:
        return _narrow(next(frames).planes[0], width)


def _narrow(rgb: Any, width: int) -> Any:
    import cv2

    if rgb.shape[1] <= width:
        return rgb
    rows = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
    return cv2.resize(rgb, (width, rows), interpolation=cv2.INTER_AREA)


class _Preview:
    """Paints a small picture into `PREVIEW`, again and again."""

    def __init__(self, folder: Path, *, backend: Any, strength: float = 1.0) -> None:
        self._path, self._backend, self._strength = folder / PREVIEW, backend, strength
        self._stylizer: Any = None

    def draw(self, style: Style, rgb: Any) -> None:
        from vidstyle.files import write_whole
        from vidstyle.imaging.image_io import Still, encode_still
        from vidstyle.options import LookOptions
        from vidstyle.stylizer import Stylizer

        if self._stylizer is None:
            self._stylizer = Stylizer(style, look=LookOptions(strength=self._strength), backend=self._backend)
        self._stylizer.style = style
        write_whole(self._path, encode_still(Still(self._stylizer(rgb)), ".jpg"))

    def __enter__(self) -> _Preview:
        return self

    def __exit__(self, *error: object) -> None:
        if self._stylizer is not None:
            self._stylizer.close()


def adapt_style(folder: Path, wishes: Wishes, say: Say) -> None:
    """`INPUT` to `STYLE`, published again and again on the way, each time with its `PREVIEW`."""
    from vidstyle.data import PHOTOS
    from vidstyle.gallery import DEFAULT_NETWORK, shared_network
    from vidstyle.imaging.image_io import read_still
    from vidstyle.options import BackendOptions
    from vidstyle.training.adapt import AdaptOptions, Measurement, adapt
    from vidstyle.training.compute import Compute
    from vidstyle.training.descent import Progress

    effort = wishes.effort
    options = AdaptOptions(
        steps=effort.steps,
        batch=effort.batch,
        size=effort.size,
        style_size=effort.style_size,
        measure_every=effort.publish_every,
        compute=Compute(threads=1),
    )
    photo = _narrow(read_still(PHOTOS / "china.jpg").rgb, effort.preview_width)
    # PyTorch is here anyway, and needs nothing compiled.
    with _Preview(folder, backend=BackendOptions(backend="torch", threads=1)) as preview:

        def watch(at: Measurement, style: Style) -> None:
            style.save(folder / STYLE)
            preview.draw(style, photo)
            say(published=at.step, point=[at.step, at.content, at.style, at.total(options.loss)])

        def progress(at: Progress) -> None:
            say(step=at.step, steps=at.steps, progress=at.step / at.steps)

        made = adapt(
            folder / INPUT,
            shared_network(DEFAULT_NETWORK),
            name="style",
            options=options,
            card={"painting": wishes.title},
            progress=progress,
            watch=watch,
        )
    notes = made.card.get("notes", [])
    assert isinstance(notes, list)
    say(done=True, message="; ".join(_sentence(note, folder, wishes) for note in notes))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # All is said and written. PyTorch would take another second to take itself apart, which the visitor waits for.
    os._exit(code)
