"""Many videos, one after the other: what cannot be rendered is told at the end, and what is done stays done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidstyle.errors import BadOption, VideoError, VidstyleError, reason
from vidstyle.files import check_folder, files_in, make_folder
from vidstyle.films.film import finished_report
from vidstyle.rendering import RenderReport
from vidstyle.video.formats import CONTAINERS

VIDEOS = (
    *CONTAINERS,
    *(".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".asf", ".ogv", ".3gp", ".nut", ".gif"),
)
"""How the names of videos end, in a folder that is rendered whole."""


@dataclass(frozen=True)
class BatchResult:
    """What became of one video of a batch."""

    source: Path
    output: Path
    state: Literal["done", "skipped", "failed"]
    """Skipped is what had been done before."""
    report: RenderReport | None = None
    error: str | None = None
    """Why there is no output, or what it lacks; one sentence."""


def batch_outputs(sources: Sequence[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Each video among ``sources``, files and folders, and what it becomes in ``folder``, which is made.

    An output is called like its source, with ``.mp4`` where that format is only read. Of folders, hidden files and
    subfolders are left out. Raises `BadOption` where two have one output or there is none, `VideoError` for what
    cannot be looked into.
    """
    found: list[Path] = []
    for source in sources:
        found += _videos(source) if source.is_dir() else [source]
    check_folder(folder)
    jobs: dict[Path, Path] = {}
    for source in found:
        suffix = source.suffix if source.suffix.lower() in CONTAINERS else ".mp4"
        output = folder / f"{source.stem}{suffix}"
        if output in jobs:
            raise BadOption(
                f"{jobs[output]} and {source} would both become {output}; rename one, or render them into two folders"
            )
        jobs[output] = source
    make_folder(folder, *sources)
    return [(source, output) for output, source in jobs.items()]


def render_batch(
    jobs: Sequence[tuple[Path, Path]],
    render: Callable[[Path, Path], RenderReport],
    *,
    overwrite: bool = False,
    skip_errors: bool = False,
    keep_parts: bool = False,
    on_result: Callable[[BatchResult], None] | None = None,
) -> list[BatchResult]:
    """``render`` every pair of source and output; errors of one do not keep the others from being rendered.

    An output that is there is skipped, unless ``overwrite``. One with frames that could not be decoded has failed, too,
    unless ``skip_errors``: it is written without them.
    """
    results = []
    for source, output in jobs:
        result = _rendered(source, output, render, overwrite, skip_errors, keep_parts)
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results


def _rendered(
    source: Path,
    output: Path,
    render: Callable[[Path, Path], RenderReport],
    overwrite: bool,
    skip_errors: bool,
    keep_parts: bool,
) -> BatchResult:
    if output.exists() and not overwrite:
        finished_report(output, keep_parts=keep_parts)
        return BatchResult(source, output, "skipped")
    try:
        report = render(source, output)
    except VidstyleError as error:
        return BatchResult(source, output, "failed", error=str(error))
    except OSError as error:
        return BatchResult(source, output, "failed", error=f"{source}: {reason(error)}")
    if report.lost and not skip_errors:
        sentence = f"{report.lost} frames of {source} could not be decoded; {output} is written without them"
        return BatchResult(source, output, "failed", report, sentence)
    return BatchResult(source, output, "done", report)


def _videos(folder: Path) -> list[Path]:
    try:
        found = files_in(folder, VIDEOS)
    except OSError as error:
        raise VideoError(f"cannot read the folder {folder}: {reason(error)}") from error
    if not found:
        raise BadOption(f"{folder} holds no videos; their names end in {', '.join(VIDEOS)}")
    return found
