"""Where training computes, and in which numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch

from vidstyle.errors import BadOption
from vidstyle.models.torch_net import threads_for
from vidstyle.options import check_between, check_choice

Arithmetic = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Device, arithmetic and threads of a run."""

    device: Device = "auto"
    """``auto`` is a CUDA GPU where torch sees one, else the CPU."""
    arithmetic: Arithmetic = "auto"
    """Of the convolutions; weights and sums stay in float32. ``auto`` is bf16 where the hardware
    multiplies in it (on CPUs three times as fast), else fp32."""
    threads: int | None = None
    """CPU threads; None leaves torch's own choice."""

    def __post_init__(self) -> None:
        check_choice("device", self.device, get_args(Device))
        check_choice("arithmetic", self.arithmetic, get_args(Arithmetic))
        if self.threads is not None:
            check_between("threads", self.threads, 1, 1024)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise BadOption("device is 'cuda', but torch sees no CUDA GPU here; use --device cpu")

    @cached_property
    def place(self) -> str:
        """The device to compute on: ``cpu`` or ``cuda``."""
        return "cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu"

    @cached_property
    def dtype(self) -> torch.dtype:
        """The type of the convolutions: bfloat16 or float32."""
        bf16 = self.arithmetic == "bf16" or (self.arithmetic == "auto" and _multiplies_bf16(self.place))
        return torch.bfloat16 if bf16 else torch.float32

    def autocast(self) -> torch.autocast:
        """The context in which a network's forward pass runs."""
        return torch.autocast(self.place, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @contextmanager
    def limits(self) -> Iterator[None]:
        """Compute with `threads` inside the block."""
        before = torch.get_num_threads()
        torch.set_num_threads(threads_for(self.threads))
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _multiplies_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before torch 2.10
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
