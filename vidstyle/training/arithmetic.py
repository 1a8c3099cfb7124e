"""Where training computes and in which numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from vidstyle.errors import BadOption

Arithmetic = Literal["auto", "fp32", "bf16"]


def arithmetic(kind: Arithmetic, device: str) -> tuple[str, torch.dtype]:
    """The device and the type of the convolutions; weights and sums stay in float32.

    ``auto`` takes a GPU before the CPU, and bf16 where the hardware multiplies in it.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise BadOption("device is 'cuda', but torch sees no CUDA GPU here; use --device cpu")
    where = "cuda" if has_cuda and device in ("auto", "cuda") else "cpu"
    if kind == "auto":
        kind = "bf16" if _multiplies_bf16(where) else "fp32"
    return where, torch.bfloat16 if kind == "bf16" else torch.float32


def _multiplies_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before torch 2.10
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` CPU threads (None: as many as before) inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
