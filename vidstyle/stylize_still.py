"""Stills and folders of stills through a `Stylizer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidstyle.errors import BadOption, ImageError, reason
from vidstyle.files import as_path, check_folder
from vidstyle.imaging.image_io import FORMATS, Still, check_output, read_still, write_still
from vidstyle.options import check_kind
from vidstyle.stylizer import Stylizer


@dataclass(frozen=True)
class FileResult:
    """What became of one picture."""

    source: str
    """The file read."""
    output: str
    """The file written, or that would have been."""
    error: str | None = None
    """Why nothing was written, as one sentence; None when all went well."""
    notes: tuple[str, ...] = ()
    """What the output does not keep of the source; one sentence each."""


@dataclass
class FolderReport:
    """What `stylize_folder` did."""

    files: list[FileResult] = field(default_factory=list)
    """One for each picture file, sorted by name."""

    @property
    def failed(self) -> list[FileResult]:
        """Those that could not be read or written."""
        return [file for file in self.files if file.error is not None]


def stylize_still(stylizer: Stylizer, still: Still) -> Still:
    """``still`` painted, with its own alpha and color profile."""
    check_kind("still", still, Still, needed=True)
    return replace(still, rgb=stylizer(still.rgb))


def stylize_file(stylizer: Stylizer, source: Path | str, output: Path | str, *, overwrite: bool = False) -> FileResult:
    """Paint the picture file ``source`` into ``output``; raises `ImageError` or `BadOption`.

    What the output could not be is said before the source is read.
    """
    source, output = as_path(source, "picture"), as_path(output, "output")
    check_output(output, source=source, overwrite=overwrite)
    notes = write_still(output, stylize_still(stylizer, read_still(source)), overwrite=overwrite)
    return FileResult(str(source), str(output), notes=notes)


def stylize_folder(
    stylizer: Stylizer,
    source: Path | str,
    output: Path | str,
    *,
    overwrite: bool = False,
    on_file: Callable[[FileResult, int], None] | None = None,
) -> FolderReport:
    """Paint every picture of the folder ``source`` into a file of the same name in ``output``.

    Pictures are told by the endings of their names (`vidstyle.imaging.image_io.FORMATS`), hidden files are left
    out, and subfolders are not entered. ``output`` is made where it is missing. A picture that cannot be read or
    written is in the report, and the others go on. ``on_file(result, total)`` is called after each.
    """
    source, output = as_path(source, "folder"), as_path(output, "folder")
    pictures = _pictures(source)
    check_folder(output)
    try:
        output.mkdir(exist_ok=True)
        same = output.samefile(source)
    except OSError as error:
        raise BadOption(f"cannot write to {output}: {reason(error)}; name another folder") from error
    if same:
        raise BadOption(f"{output} is both the folder read and the folder written; write to another one")
    report = FolderReport()
    for picture in pictures:
        target = output / picture.name
        try:
            result = stylize_file(stylizer, picture, target, overwrite=overwrite)
        except (BadOption, ImageError) as error:
            result = FileResult(str(picture), str(target), error=str(error))
        report.files.append(result)
        if on_file is not None:
            on_file(result, len(pictures))
    return report


def _pictures(folder: Path) -> list[Path]:
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in FORMATS and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise ImageError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    if not found:
        raise ImageError(f"{folder} holds no pictures; their names end in {', '.join(FORMATS)}")
    return found
