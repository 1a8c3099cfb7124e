"""Torch: in float32 on a processor the reference of the other backends, on an NVIDIA GPU a fast one."""

from __future__ import annotations

import torch

from vidstyle.backends.base import Backend, Program
from vidstyle.backends.torch.gpu import CudaBackend
from vidstyle.backends.torch.reference import TorchBackend
from vidstyle.errors import BadOption, MissingDependency
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
