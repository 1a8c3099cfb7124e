"""What 8-bit convolutions need to know of a network: the range of what each reads, measured on the shipped photos."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidstyle.backends.base import Int8Program
from vidstyle.files import cache_key, read_cached, write_cached
from vidstyle.frame import Planes

Run = Callable[[Planes, NDArray[np.float32]], Mapping[str, NDArray[Any]]]
"""Paints one frame with a style vector; gives the outputs of the graph by name."""

LEAST_PSNR = 35.0
"""dB to the float network, of the worst plane of the worst photo. Below that a network is left in float."""


def measured_ranges(program: Int8Program, open_graph: Callable[[bytes], Run]) -> Mapping[str, Any] | None:
    """The ranges for ``program.graph``; None where its pictures are too far from those of the float network.

    ``open_graph`` compiles a graph in float32. It takes about a second; what is found is kept in the cache.
    """
    key = cache_key(program.recipe, str(LEAST_PSNR))
    stored = read_cached("int8", key)
    if stored is None:
        stored = _measured(program, open_graph)
        write_cached("int8", key, stored)
    with np.load(io.BytesIO(stored)) as arrays:
        if arrays["psnr"] < LEAST_PSNR:
            return None
        names = sorted({name.rpartition(".")[0] for name in arrays if name != "psnr"})
        return {name: (arrays[f"{name}.low"], arrays[f"{name}.high"]) for name in names}


def _measured(program: Int8Program, open_graph: Callable[[bytes], Run]) -> bytes:
    found: dict[str, Any] = {}
    exact = []
    frames, run = program.frames(), open_graph(program.graph({}))
    for frame in frames:
        outputs = run(frame, program.style)
        exact.append(outputs["frame_out"])
        for name, values in outputs.items():
            widest = {".low": np.minimum, ".high": np.maximum}.get(PurePath(name).suffix)
            if widest is not None:
                found[name] = widest(found[name], values) if name in found else values
    names = {name.rpartition(".")[0] for name in found}
    run = open_graph(program.graph({name: (found[f"{name}.low"], found[f"{name}.high"]) for name in names}))
    errors = [
        np.mean((run(frame, program.style)["frame_out"].astype(np.float32) - picture) ** 2, axis=(0, 1, 2)).max()
        for frame, picture in zip(frames, exact, strict=True)
    ]
    psnr = 10 * np.log10(255**2 / max(*errors, 1e-9))
    file = io.BytesIO()
    np.savez(file, psnr=np.float32(psnr), **found)
    return file.getvalue()
