"""Whether an engine can be used here: on this GPU, with this library, for these frames."""

from __future__ import annotations

import shlex
from typing import Any

from vidstyle.backends.tensorrt.library import Library
from vidstyle.backends.tensorrt.targets import GpuFacts, covers
from vidstyle.frame import FrameFormat, untagged_matrix
from vidstyle.gallery import style_names
from vidstyle.models.engine_file import EngineCard, EngineFile
from vidstyle.options import BuildOptions

__all__ = ["GpuFacts", "again", "command", "mismatch", "no_gpu"]


def mismatch(engine: EngineFile, form: FrameFormat | None, gpu: GpuFacts | None, library: Library) -> str | None:
    """Why ``engine`` cannot be used here, and the command that mends it; None if it can.

    ``form`` is that of the frames, None where there are none yet; ``gpu`` the one to run on, None where
    none answers. The library's own check, which needs the GPU, comes later.
    """
    if gpu is None:
        return no_gpu(engine)
    return _of_library(engine, library) or _of_gpu(engine, gpu, library) or (form and _of_frames(engine, form)) or None


def no_gpu(engine: EngineFile, why: str = "") -> str:
    """What is said where there is no GPU; ``why`` is half a sentence."""
    reason = f" ({why})" if why else ""
    return (
        f"{engine.path} is an engine, which needs an NVIDIA GPU, and none answers on this machine{reason}; "
        f"{_without(engine)}"
    )


def again(engine: EngineFile, **changes: Any) -> str:
    """How to build it again, with ``changes`` of `BuildOptions`."""
    return f"build it again with `--rebuild`, or with `{command(engine, **changes)}`"


def command(engine: EngineFile, source: str | None = None, **changes: Any) -> str:
    """The command line that builds it as it is, but of the style ``source`` and for ``changes`` of `BuildOptions`."""
    card = engine.card
    options = BuildOptions(
        **{
            "size": card.best,
            "smallest": card.smallest if card.dynamic else None,
            "largest": card.largest if card.dynamic else None,
            "pixels": card.pixels,
            "matrix": card.matrix,
            "full_range": card.full_range,
            "precision": card.precision,
            **changes,
        }
    )
    words = ["vidstyle", "build-engine", source or _source(engine)]
    if options.smallest is not None and options.largest is not None:
        sizes = {"--min": options.smallest, "--opt": options.size, "--max": options.largest}
    else:
        sizes = {"--size": options.size} if options.size != BuildOptions.size else {}
    for option, (height, width) in sizes.items():
        words += [option, f"{width}x{height}"]
    if options.pixels != BuildOptions.pixels:
        words += ["--pixels", options.pixels]
    if options.pixels != "rgb":
        if options.matrix is not None and options.matrix != untagged_matrix(options.size[0]):
            words += ["--matrix", options.matrix]
        words += ["--full-range"] if options.full_range else []
    if options.precision != BuildOptions.precision:
        words += ["--precision", options.precision]
    for target in options.targets:
        words += ["--target", target]
    if options.library != BuildOptions.library:
        words += ["--library", options.library]
    # Quoted, as it is there to be pasted and the names in it may come from a stranger's file.
    return shlex.join([*words, "-o", str(engine.path), "--overwrite"])


def _of_library(engine: EngineFile, library: Library) -> str | None:
    card = engine.card
    if (card.library, card.library_version) == (library.name, library.version):
        return None
    return (
        f"{engine.path} was built by {card.library} {card.library_version}, and an engine runs on the version that "
        f"built it; here is {library.name} {library.version}: {again(engine)}, or install that version with "
        f"`{shlex.join(['pip', 'install', f'{card.library}=={card.library_version}'])}`"
    )


def _of_gpu(engine: EngineFile, gpu: GpuFacts, library: Library) -> str | None:
    card = engine.card
    here = f"{gpu.name} (compute capability {gpu.compute_capability})"
    if not library.supports(gpu.compute_capability):
        return (
            f"{engine.path} was built by {library.name} for GPUs of compute capability {', '.join(card.targets)}, and "
            f"{library.name} does not know this one, {here}; build it here with "
            f"`{command(engine, library='tensorrt')}`, or {_without(engine)}"
        )
    if not covers(card.targets, gpu.compute_capability):
        return (
            f"{engine.path} was built for GPUs of compute capability {', '.join(card.targets)}, and this one is "
            f"{here}; {again(engine, targets=('current',))}"
        )
    if card.gpu is not None and card.gpu != gpu.name:
        return f"{engine.path} was built on and for {card.gpu}, and this GPU is {here}; {again(engine)}"
    return None


def _of_frames(engine: EngineFile, form: FrameFormat) -> str | None:
    card = engine.card
    wish: dict[str, Any] = {"pixels": form.pixels, "matrix": form.matrix, "full_range": form.full_range}
    if not card.takes(form.size):
        wish |= {"size": form.size, "smallest": None, "largest": None}
    if form.pixels != card.pixels:
        return f"{engine.path} takes {card.pixels} frames, and these are {form.pixels}; {again(engine, **wish)}"
    if not card.takes(form.size):
        size = f"{form.width}x{form.height}"
        mend = again(engine, **wish) + _work_size(card, form)
        return f"{engine.path} takes frames of {card.sizes()}, and these are {size}; {mend}"
    if form.pixels != "rgb" and (form.matrix, form.full_range) != (card.matrix, card.full_range):
        return (
            f"{engine.path} takes colors as {_colors(card.matrix, card.full_range)}, and these are "
            f"{_colors(form.matrix, form.full_range)}; {again(engine, **wish)}"
        )
    return None


def _work_size(card: EngineCard, form: FrameFormat) -> str:
    """A way to paint larger frames without a new engine, if there is one."""
    rows = card.largest[0]
    if form.height <= rows:
        return ""
    width = round(rows * form.width / form.height / 4) * 4
    if card.takes((rows, width)) or (not card.dynamic and abs(width - card.best[1]) <= 4):
        return f", or paint at its size with `--work-size {rows}`"
    return ""


def _source(engine: EngineFile) -> str:
    """What to build it from: its style, or itself, which has all its styles."""
    names = engine.card.styles
    return names[0] if len(names) == 1 and names[0] in style_names() else str(engine.path)


def _without(engine: EngineFile) -> str:
    """How to paint without it."""
    name = next(iter(engine.card.styles), "")
    if name not in style_names():
        return "paint on the CPU with the style that it was made of, or with one that `vidstyle styles` lists"
    return f"paint on the CPU with `--style {shlex.quote(name)}` instead"


def _colors(matrix: str, full_range: bool) -> str:
    return f"{matrix} of {'full' if full_range else 'limited'} range"
