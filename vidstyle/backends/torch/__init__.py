"""Torch: in float32 on a processor the reference of the other backends, on an NVIDIA GPU a fast one.

The reference knows nothing of the ONNX graph.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vidstyle.backends.base import Backend, Pending, Program, chosen_precision, own_memory
from vidstyle.backends.torch.cuda import TYPES, CudaBackend
from vidstyle.errors import BadOption, MissingDependency, VidstyleError
from vidstyle.frame import FrameFormat, Planes, rgb_from_yuv, yuv_from_rgb
from vidstyle.models.style import Parts, Style
from vidstyle.models.torch_net import TransformNet, threads_for
from vidstyle.options import BackendOptions


def open_program(program: Program, options: BackendOptions) -> Backend:
    """Load ``program``: on the GPU that ``options`` name, else on the first one, else on the processor.

    Raises `MissingDependency` where a GPU is named and torch was built without CUDA, and `BadOption` where
    there is no such GPU.
    """
    device = _device(options.gpu)
    return TorchBackend(program, options) if device is None else CudaBackend(program, options, device)


def _device(gpu: int | None) -> torch.device | None:
    """The CUDA device to run on; None is the processor."""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if gpu is not None and gpu >= count:
            raise BadOption(f"gpu is {gpu}, but PyTorch sees {count} here, numbered from 0; name one of these")
        return torch.device("cuda", gpu or 0)
    if gpu is None:
        return None
    if torch.version.cuda is None:
        raise MissingDependency(
            f"gpu is {gpu}, but PyTorch {torch.__version__} here was built without CUDA; install the CUDA build as "
            "https://pytorch.org/get-started says, or leave the GPU out to paint on the CPU"
        )
    raise BadOption(
        f"gpu is {gpu}, but PyTorch {torch.__version__} (CUDA {torch.version.cuda}) finds no NVIDIA GPU here; "
        "`vidstyle doctor` tells what the driver says, and without a GPU number it paints on the CPU"
    )


class TorchBackend(Backend):
    """`TransformNet` between two colour conversions, one frame at a time. A style is loaded where it changes."""

    name = "torch"

    def __init__(self, program: Program, options: BackendOptions) -> None:
        super().__init__(program)
        precision = chosen_precision(options, list(TYPES), "PyTorch")
        self._type = TYPES[precision]
        self._threads = options.threads
        self._padded_size = program.shape.padded_size(program.form.size)
        self._painting: Parts | None = None
        self._net = TransformNet(program.shape)
        self._net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it
        self._net.requires_grad_(False)
        self.description = f"PyTorch {torch.__version__} {precision} on cpu"

    def _submit(self, planes: Planes, style: Style) -> Pending:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads_for(self._threads))
            result = self._stylize(planes, style)
        except RuntimeError as error:
            raise VidstyleError(f"PyTorch failed on a frame: {error}") from error
        finally:
            torch.set_num_threads(before)
        return lambda: result

    @torch.inference_mode()
    def _stylize(self, planes: Planes, style: Style) -> Planes:
        form = self.form
        if self._painting != style.parts:
            self._net.load(style.network)
            self._painting = style.parts
        tensors = [torch.from_numpy(own_memory(plane)).float() for plane in planes]
        rgb = _rgb_from_planes(tensors, form)
        height, width = self._padded_size
        rgb = functional.pad(rgb, (0, width - form.width, 0, height - form.height), mode="replicate")
        rgb = rgb.contiguous(memory_format=torch.channels_last)
        vector = torch.tensor(style.vector)
        with torch.autocast("cpu", self._type, enabled=self._type != torch.float32):
            styled = self._net(rgb, vector)
        results = _planes_from_rgb(styled.float() * 255, form)
        return tuple(plane.round().clamp(0, 255).to(torch.uint8).numpy() for plane in results)

    def close(self) -> None:
        pass


def _rgb_from_planes(planes: list[Tensor], form: FrameFormat) -> Tensor:
    """(1, 3, H, W) in [0, 1], not clipped, from planes of 0-255; each chroma sample covers 2x2 pixels."""
    if form.pixels == "rgb":
        return planes[0].permute(2, 0, 1)[None] / 255
    y, u, v = planes if form.pixels == "i420" else (planes[0], *planes[1].unbind(2))
    chroma = torch.stack([u, v]).repeat_interleave(2, 1).repeat_interleave(2, 2)
    yuv = torch.cat([y[None], chroma[:, : form.height, : form.width]])
    matrix, offset = rgb_from_yuv(form.matrix, form.full_range)
    return _transform(yuv, matrix, offset)[None] / 255


def _planes_from_rgb(rgb: Tensor, form: FrameFormat) -> list[Tensor]:
    """The planes, as floats, of a padded (1, 3, H', W') picture of 0-255; chroma is the mean of 2x2 pixels."""
    if form.pixels == "rgb":
        return [rgb[0, :, : form.height, : form.width].permute(1, 2, 0)]
    yuv = _transform(rgb[0], *yuv_from_rgb(form.matrix, form.full_range))
    rows, columns = form.chroma_size
    chroma = functional.avg_pool2d(yuv[1:], 2)[:, :rows, :columns]
    y = yuv[0, : form.height, : form.width]
    return [y, *chroma] if form.pixels == "i420" else [y, chroma.permute(1, 2, 0)]


def _transform(picture: Tensor, matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> Tensor:
    m = torch.from_numpy(matrix).to(picture)
    return torch.einsum("oc,chw->ohw", m, picture) + torch.from_numpy(offset).to(picture)[:, None, None]
