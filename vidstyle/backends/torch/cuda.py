"""Torch on an NVIDIA GPU: a CUDA graph for each frame in flight.

A graph is all the work on one frame, from 8-bit planes to 8-bit planes in the GPU's memory, recorded once and
started by one call: Python would take longer to start its sixty operations than the GPU to compute them. Each
graph has a stream of its own, so that one frame is copied while another is computed.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.backends.base import Backend, Pending, Program, chosen_precision, first_line
from vidstyle.backends.torch.cell_net import CellNet
from vidstyle.errors import VidstyleError
from vidstyle.frame import FrameFormat, Planes
from vidstyle.models.architecture import Architecture, Network
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_IN_FLIGHT = 3
"""One frame on the way in, one being computed, one on the way out. With less memory there are fewer."""
_WARM_UP = 3
"""Before a recording: libraries load, measure and choose their algorithms when they are first called."""
_TENSOR_CORES = (7, 0)
"""Before this compute capability float16 is no faster than float32, or much slower."""


class CudaBackend(Backend):
    """`CellNet` in CUDA graphs, three frames in flight."""

    name = "torch"

    def __init__(self, program: Program, options: BackendOptions, device: torch.device) -> None:
        super().__init__(program)
        self.slots: list[Slot] = []
        self._free: deque[Slot] = deque()
        self._device = device
        precision = chosen_precision(options, list(TYPES), "PyTorch")
        if options.precision == "auto":
            precision = "fp16" if torch.cuda.get_device_capability(device) >= _TENSOR_CORES else "fp32"
        dtype = TYPES[precision]
        try:
            with torch.cuda.device(device):  # Triton runs on the current one
                kind, kind_name = choose_net(program.shape, program.form, dtype, device)
                net = kind(program.shape, program.form, dtype, device)
                self._styles = net.styles
                torch.cuda.synchronize()  # its tables are there before another stream reads them
                self._open_slots(net)
        except torch.OutOfMemoryError as error:
            raise VidstyleError(
                f"the GPU's memory does not hold frames of {program.form.width}x{program.form.height}: "
                f"{first_line(error)}; use a smaller --work-size, or the network 'fast'"
            ) from error
        except RuntimeError as error:
            raise VidstyleError(f"PyTorch cannot run the network on the GPU: {first_line(error)}") from error
        self._free.extend(self.slots)
        self.in_flight = len(self.slots)
        gpu = torch.cuda.get_device_name(device)
        self.description = f"PyTorch {torch.__version__} {precision} on {gpu}, {kind_name}, frames: {self.in_flight}"

    def _open_slots(self, net: CellNet) -> None:
        for number in range(_IN_FLIGHT):
            try:
                self.slots.append(Slot(net, self.form, self._device))
            except torch.OutOfMemoryError:
                if number == 0:
                    raise
                torch.cuda.empty_cache()
                return

    def _submit(self, planes: Planes, style: Style) -> Pending:
        slot = self._take(self._free)
        try:
            slot.start(planes, self._styles.block(style))
        except RuntimeError as error:
            self._free.append(slot)
            raise VidstyleError(f"PyTorch cannot start a frame on the GPU: {first_line(error)}") from error

        def wait() -> Planes:
            try:
                results = slot.finish()
            except RuntimeError as error:
                raise VidstyleError(f"PyTorch failed on a frame on the GPU: {first_line(error)}") from error
            self._free.append(slot)
            return results

        return wait

    def network_seconds(self, runs: int) -> list[float]:
        """How long each of ``runs`` runs takes on the frame that came last, by the GPU's clock; for benchmarks.

        From 8-bit planes to 8-bit planes in the GPU's memory: copies to and from the processor are left out.
        """
        slot = self.slots[0]
        with torch.cuda.device(self._device), torch.cuda.stream(slot.stream):
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]  # type: ignore[no-untyped-call]
            for mark in marks[:-1]:
                mark.record()
                slot.graph.replay()
            marks[-1].record()
            slot.stream.synchronize()
        return [begin.elapsed_time(end) / 1000 for begin, end in zip(marks[:-1], marks[1:], strict=True)]

    def close(self) -> None:
        # Frames that nobody waited for still read and write their memory.
        for slot in self.slots:
            with contextlib.suppress(RuntimeError):
                slot.close()
        self.slots.clear()
        self._free.clear()

    def __del__(self) -> None:
        self.close()


class Slot:
    """The memory, the stream and the recorded graph of one frame in flight."""

    def __init__(self, net: CellNet, form: FrameFormat, device: torch.device) -> None:
        with torch.cuda.device(device):
            self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._shapes = form.plane_shapes
            # Page-locked memory is what a GPU copies from and to without the processor; all planes in one go.
            self._pixels_in, self._pixels_out = (self._pixels().pin_memory() for _ in range(2))
            self._style_in = torch.zeros(net.styles.size // 4).pin_memory()
            self._block: NDArray[np.float32] | None = None
            # Waiting leaves the core to decoder and encoder.
            self._ended = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(self.stream):
                self._pixels_there, self._result = (self._pixels().to(device) for _ in range(2))
                self._style_there = net.new_style()
                self.graph = self._record(net)
                """Reads the planes and the style from the GPU's memory and writes the result there."""

    def _pixels(self) -> Tensor:
        return torch.zeros(sum(map(math.prod, self._shapes)), dtype=torch.uint8)

    def _views(self, pixels: Tensor) -> list[Tensor]:
        parts = torch.split(pixels, [math.prod(shape) for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _record(self, net: CellNet) -> torch.cuda.CUDAGraph:
        planes, results = self._views(self._pixels_there), self._views(self._result)

        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            for _ in range(_WARM_UP):
                net.paint(planes, self._style_there, results)
            self.stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads may use CUDA meanwhile, a decoder's for one.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                net.paint(planes, self._style_there, results)
        return graph

    def start(self, planes: Planes, block: NDArray[np.float32]) -> None:
        """Put one frame, in the style of ``block``, on the stream; the planes are not needed when this returns."""
        for pinned, plane in zip(self._views(self._pixels_in), planes, strict=True):
            np.copyto(pinned.numpy(), plane)
        with torch.cuda.stream(self.stream):
            if block is not self._block:
                np.copyto(self._style_in.numpy(), block)
                self._style_there.load(self._style_in)
                self._block = block
            self._pixels_there.copy_(self._pixels_in, non_blocking=True)
            self.graph.replay()
            self._pixels_out.copy_(self._result, non_blocking=True)
            self._ended.record()

    def finish(self) -> Planes:
        """Wait for that frame; the planes belong to the caller."""
        self._ended.synchronize()
        return tuple(view.numpy().copy() for view in self._views(self._pixels_out))

    def close(self) -> None:
        """Wait for what is under way, and free the recording's memory."""
        self.stream.synchronize()
        self.graph.reset()


def choose_net(
    shape: Architecture, form: FrameFormat, dtype: torch.dtype, device: torch.device
) -> tuple[type[CellNet], str]:
    """`FusedNet` if it works here, else `CellNet`; and its name, for people.

    Triton comes with torch's CUDA builds for Linux, needs a C compiler, and does not know every GPU. So both
    paint a small picture first.
    """
    try:
        from vidstyle.backends.torch.triton_kernels import VERSION, FusedNet

        small = form.resized((36, 52))
        random = torch.Generator().manual_seed(0)
        planes = [
            torch.randint(0, 256, shape, generator=random, dtype=torch.uint8).to(device) for shape in small.plane_shapes
        ]
        normal = np.random.default_rng(0).normal
        weights = {name: normal(0, math.prod(size[1:]) ** -0.5, size) for name, size in shape.weight_shapes.items()}
        network = Network(shape, {n: w.astype(np.float32) for n, w in weights.items()}, shape.identity_style())
        pictures = []
        for kind in (FusedNet, CellNet):
            results = [torch.full_like(plane, 99) for plane in planes]
            net = kind(shape, small, dtype, device)
            style = net.new_style()
            style.load(torch.from_numpy(net.styles.block(Style.of("random", network))))
            net.paint(planes, style, results)
            pictures.append(results)
        error = max(float((a.float() - b.float()).abs().mean()) for a, b in zip(*pictures, strict=True))
        if error > 1:  # level of 255
            return CellNet, f"without Triton {VERSION}, which paints something else"
    except Exception as error:  # a compiler's errors derive from nothing narrower
        return CellNet, f"without Triton ({first_line(error)})"
    return FusedNet, f"Triton {VERSION}"
