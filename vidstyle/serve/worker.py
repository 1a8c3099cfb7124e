"""The process that does one job: ``python -P -m vidstyle.serve.worker TASK FOLDER``.

It reports as JSON lines on its standard output, last either ``{"done": ...}`` or ``{"error": message}``, yields to
everything else on the machine, and ends with the server.
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
from typing import TYPE_CHECKING, Any

from vidstyle.errors import VideoError, VidstyleError
from vidstyle.serve.job import INPUT, PREVIEW, RENDER_STYLE, STYLE, VIDEO, JobSpec
from vidstyle.system import keep_freed_memory

if TYPE_CHECKING:
    from vidstyle.models.style import Style
    from vidstyle.stylizer import Stylizer
    from vidstyle.video.info import VideoInfo

FAILURE = "failure.txt"
"""File with the traceback of an unforeseen error."""
MAX_TRACKS = 32
MAX_FPS = 240
_MEMORY_BYTES = 6 << 30
_FILE_BYTES = 2 << 30
_REPORT_SECONDS = 0.25
_PART_SECONDS = 20.0
"""Of film that a restarted server paints again at most."""

# Of `vidstyle render`, for those who choose the container; visitors do not.
_ADVICE = re.compile(r"; write to \.\w+ to keep \w+")

Report = Callable[..., None]


class TooMuch(VideoError):
    """A video that is larger or longer than this server takes."""


def main(arguments: list[str]) -> int:
    """Do the task; the exit code is 0 whenever the last line says what happened."""
    task, folder = arguments[0], Path(arguments[1])
    report = _json_writer()
    _exit_with_parent()
    _limit_resources()
    spec = None
    try:
        if task not in TASKS:
            raise VidstyleError(f"there is no task {task!r}; there are {', '.join(TASKS)}")
        spec = JobSpec.read(folder)
        TASKS[task](folder, spec, report)
    except TooMuch as error:
        report(error=str(error), too_much=True)
    except VidstyleError as error:
        report(error=_public_message(str(error), folder, spec))
    except MemoryError:
        report(error=f"the job needs more memory than it may have, {_MEMORY_BYTES >> 30} GiB; give something smaller")
    except Exception as error:
        with contextlib.suppress(OSError):
            (folder / FAILURE).write_text(traceback.format_exc()[-20_000:], encoding="utf-8")
        first = (str(error).splitlines() or [""])[0]
        report(error=_public_message(f"the {task} failed ({type(error).__name__}: {first})", folder, spec))
    return 0


def _public_message(text: str, folder: Path, spec: JobSpec | None) -> str:
    """A message for visitors: the file has the label that they know, and the server's folders are not shown."""
    label = "the file" if spec is None else spec.label
    text = _ADVICE.sub("", text)
    return text.replace(str(folder / INPUT), label).replace(str(folder) + os.sep, "").replace(str(folder), "the job")


def _json_writer() -> Report:
    """A function that writes a line for the server. Whatever libraries print goes to standard error instead."""
    sys.stdout.flush()
    line = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def report(**facts: Any) -> None:
        line.write(json.dumps(facts, allow_nan=False) + "\n")
        line.flush()

    return report


def _exit_with_parent() -> None:
    """The server holds our input open and writes nothing; however it ends, the system closes the input then."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os._exit(3)

    threading.Thread(target=wait, name="vidstyle-worker-end", daemon=True).start()


def _limit_resources() -> None:
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


def probe_video(folder: Path, spec: JobSpec, report: Report) -> None:
    """Report what the upload is; an error where it is not a video that may be rendered here."""
    info = _probe(folder / INPUT, spec)
    report(done=True, size=info.size, seconds=info.duration, frames=info.frames)


def _probe(path: Path, spec: JobSpec) -> VideoInfo:
    """The facts about the video at ``path``; `TooMuch` where it is more than is allowed."""
    from vidstyle.video.info import probe

    info = probe(path)
    height, width = info.size
    if height * width > spec.max_pixels:
        raise TooMuch(
            f"{spec.label} is {width}x{height}; videos of at most {spec.max_pixels / 1e6:.3g} megapixels "
            "are rendered here: make it smaller first"
        )
    if info.duration is not None and info.duration > spec.max_seconds:
        seconds = f"{info.duration:.0f} s long; at most {spec.max_seconds:g} s are rendered here"
        raise TooMuch(f"{spec.label} is {seconds}: cut it")
    if len(info.tracks) >= MAX_TRACKS:
        raise TooMuch(f"{spec.label} has {len(info.tracks) + 1} tracks; at most {MAX_TRACKS} are allowed")
    return info


def render_video(folder: Path, spec: JobSpec, report: Report) -> None:
    """`INPUT` to `VIDEO` in the style `RENDER_STYLE`, with a `PREVIEW` of its first frame."""
    from vidstyle.films.film import render_parts
    from vidstyle.films.folder import folder_of
    from vidstyle.models.style import Style
    from vidstyle.options import BackendOptions, LookOptions
    from vidstyle.rendering import Progress
    from vidstyle.stylizer import Stylizer
    from vidstyle.video.reader import VideoReader

    info = _probe(folder / INPUT, spec)
    if (folder / VIDEO).exists() and not folder_of(folder / VIDEO).exists():
        report(done=True, step=info.frames, steps=info.frames)  # an earlier server was stopped right behind the end
        return
    style = Style.load(folder / RENDER_STYLE)
    report(steps=info.frames, step=0, progress=0.0)
    look, backend = LookOptions(strength=spec.strength, mask=spec.mask), BackendOptions(threads=1)
    with VideoReader(folder / INPUT, pixels="rgb", info=info) as source, contextlib.closing(source.frames()) as frames:
        first = _narrow(next(frames).planes[0], spec.budget.preview_width)
    with Stylizer(style, look=look, backend=backend) as stylizer:
        _write_preview(folder, stylizer, first)
    report(preview=True)
    reported = 0.0

    def on_progress(at: Progress) -> None:
        nonlocal reported
        if at.seconds_of_video > spec.max_seconds + 1:
            raise TooMuch(f"{spec.label} is longer than {spec.max_seconds:g} s, the most that is rendered here")
        now = time.monotonic()
        if now - reported >= _REPORT_SECONDS:
            reported = now
            facts: dict[str, object] = {"step": at.frames}
            if at.total:
                facts |= {"steps": max(at.total, at.frames), "progress": min(1.0, at.frames / at.total)}
            report(**facts)

    def on_plan(frames: int, seconds: float) -> None:
        # A container may declare that it is short, or nothing; what is in it is what counts.
        if seconds > spec.max_seconds + 1:
            raise TooMuch(f"{spec.label} is longer than {spec.max_seconds:g} s, the most that is rendered here")
        if frames > MAX_FPS * (spec.max_seconds + 1):
            raise TooMuch(f"{spec.label} has more than {MAX_FPS} frames a second")
        report(step=0)

    result = render_parts(
        folder / INPUT,
        folder / VIDEO,
        style,
        look=look,
        backend=backend,
        part_seconds=_PART_SECONDS,
        info=info,
        on_plan=on_plan,
        on_progress=on_progress,
    )
    lost = [f"{result.lost} frames could not be read"] if result.lost else []
    message = "; ".join(_public_message(note, folder, spec) for note in [*lost, *result.notes])
    report(done=True, step=result.frames, steps=result.frames, message=message)


def _narrow(rgb: Any, width: int) -> Any:
    """``rgb``, uint8 (height, width, 3), at most ``width`` wide."""
    import cv2

    if rgb.shape[1] <= width:
        return rgb
    rows = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
    return cv2.resize(rgb, (width, rows), interpolation=cv2.INTER_AREA)


def _write_preview(folder: Path, stylizer: Stylizer, rgb: Any) -> None:
    from vidstyle.files import write_whole
    from vidstyle.imaging.image_io import Still, encode_still

    write_whole(folder / PREVIEW, encode_still(Still(stylizer(rgb)), ".jpg"))


def adapt_style(folder: Path, spec: JobSpec, report: Report) -> None:
    """`INPUT` to `STYLE`, published again and again on the way, each time with its `PREVIEW`."""
    from vidstyle.data import PHOTOS
    from vidstyle.gallery import DEFAULT_NETWORK, shared_network
    from vidstyle.imaging.image_io import read_still
    from vidstyle.models.style import Style
    from vidstyle.options import BackendOptions
    from vidstyle.stylizer import Stylizer
    from vidstyle.training.adapt import AdaptOptions, Measurement, adapt
    from vidstyle.training.device import Compute
    from vidstyle.training.trainer import Progress

    keep_freed_memory()
    budget = spec.budget
    options = AdaptOptions(
        steps=budget.steps,
        batch=budget.batch,
        size=budget.size,
        style_size=budget.style_size,
        measure_every=budget.publish_every,
        compute=Compute(threads=1),
    )
    photo = _narrow(read_still(PHOTOS / "china.jpg").rgb, budget.preview_width)
    network = shared_network(DEFAULT_NETWORK)
    # PyTorch is here anyway, and needs nothing compiled.
    backend = BackendOptions(backend="torch", threads=1)
    with Stylizer(Style.of("style", network), backend=backend) as stylizer:

        def watch(at: Measurement, style: Style) -> None:
            style.save(folder / STYLE)
            stylizer.style = style
            _write_preview(folder, stylizer, photo)
            report(published=at.step, point=[at.step, at.content, at.style, at.total(options.loss)])

        def progress(at: Progress) -> None:
            report(step=at.step, steps=at.steps, progress=at.step / at.steps)

        made = adapt(
            folder / INPUT,
            network,
            name="style",
            options=options,
            card={"painting": spec.title},
            progress=progress,
            watch=watch,
        )
    notes = made.card.get("notes", [])
    assert isinstance(notes, list)
    report(done=True, message="; ".join(_public_message(note, folder, spec) for note in notes))


TASKS = {"probe": probe_video, "adapt": adapt_style, "render": render_video}

if __name__ == "__main__":
    code = main(sys.argv[1:])
    # All is reported and written. PyTorch would take another second to take itself apart, which the visitor waits for.
    os._exit(code)
