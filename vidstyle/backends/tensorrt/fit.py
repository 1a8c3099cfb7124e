"""Whether an engine can be used here: on this GPU, with this library, for these frames."""

from __future__ import annotations

from vidstyle.backends.tensorrt.library import Library
from vidstyle.backends.tensorrt.targets import GpuFacts, covers
from vidstyle.enginefile import EngineCard, EngineFile
from vidstyle.frame import FrameForm

__all__ = ["GpuFacts", "again", "mismatch", "no_gpu"]


def mismatch(engine: EngineFile, form: FrameForm | None, gpu: GpuFacts | None, library: Library) -> str | None:
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
        f"paint on the CPU with `--style {_style(engine)}` instead"
    )


def again(engine: EngineFile, wish: str = "") -> str:
    """How to build it again, with the options ``wish``."""
    return f"build it again with `--rebuild`, or with {_command(engine, wish)}"


def _of_library(engine: EngineFile, library: Library) -> str | None:
    card = engine.card
    if (card.library, card.library_version) == (library.name, library.version):
        return None
    return (
        f"{engine.path} was built by {card.library} {card.library_version}, and an engine runs on the version that "
        f"built it; here is {library.name} {library.version}: {again(engine)}, or install that version with "
        f"pip install '{card.library}=={card.library_version}'"
    )


def _of_gpu(engine: EngineFile, gpu: GpuFacts, library: Library) -> str | None:
    card = engine.card
    here = f"{gpu.name} (compute capability {gpu.compute_capability})"
    if not library.supports(gpu.compute_capability):
        return (
            f"{engine.path} was built by {library.name} for GPUs of compute capability {', '.join(card.targets)}, and "
            f"{library.name} does not know this one, {here}; build it here with "
            f"{_command(engine, '--library tensorrt')}, or paint with `--style {_style(engine)}` instead"
        )
    if not covers(card.targets, gpu.compute_capability):
        return (
            f"{engine.path} was built for GPUs of compute capability {', '.join(card.targets)}, and this one is "
            f"{here}; {again(engine, '--target current')}"
        )
    if card.gpu is not None and card.gpu != gpu.name:
        return f"{engine.path} was built on and for {card.gpu}, and this GPU is {here}; {again(engine)}"
    return None


def _of_frames(engine: EngineFile, form: FrameForm) -> str | None:
    card = engine.card
    if form.pixels != card.pixels:
        return (
            f"{engine.path} takes {card.pixels} frames, and these are {form.pixels}; "
            f"{again(engine, f'--pixels {form.pixels}')}"
        )
    if not card.takes(form.size):
        size = f"{form.width}x{form.height}"
        wish = f"--size {size}"
        mend = again(engine, wish) + _work_size(card, form)
        return f"{engine.path} takes frames of {card.sizes()}, and these are {size}; {mend}"
    if form.pixels != "rgb" and (form.matrix, form.full_range) != (card.matrix, card.full_range):
        wish = f"--matrix {form.matrix}" + (" --full-range" if form.full_range else "")
        return (
            f"{engine.path} takes colors as {_colors(card.matrix, card.full_range)}, and these are "
            f"{_colors(form.matrix, form.full_range)}; {again(engine, wish)}"
        )
    return None


def _work_size(card: EngineCard, form: FrameForm) -> str:
    """A way to paint larger frames without a new engine, if there is one."""
    rows = card.largest[0]
    if form.height <= rows:
        return ""
    width = round(rows * form.width / form.height / 4) * 4
    if card.takes((rows, width)) or (not card.dynamic and abs(width - card.best[1]) <= 4):
        return f", or paint at its size with `--work-size {rows}`"
    return ""


def _command(engine: EngineFile, wish: str) -> str:
    words = ["vidstyle build-engine", _style(engine), *([wish] if wish else []), "-o", str(engine.path), "--overwrite"]
    return f"`{' '.join(words)}`"


def _style(engine: EngineFile) -> str:
    """What to paint with: the style file beside the engine, or the name of its first style."""
    weights = engine.weights
    return str(weights) if weights is not None else next(iter(engine.card.styles))


def _colors(matrix: str, full_range: bool) -> str:
    return f"{matrix} of {'full' if full_range else 'limited'} range"
