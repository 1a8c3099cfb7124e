"""Where training computes: device, arithmetic and threads, and several processes that train as one.

Processes are started by `torchrun`, which says through the environment who is who. Each has its share of a step's
styles, and their gradients are averaged. This is done by hand, not by `DistributedDataParallel`: its hooks do not see
the inner steps of a bilevel problem.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from vidstyle.errors import BadOption
from vidstyle.models.torch_net import threads_for
from vidstyle.options import check_fields, within

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
    threads: int | None = within(None, 1, 1024)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise BadOption("device is 'cuda', but torch sees no CUDA GPU here; use --device cpu")

    @cached_property
    def place(self) -> str:
        """``cpu`` or ``cuda``."""
        return "cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu"

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of the convolutions: bfloat16 or float32."""
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


class ProcessGroup:
    """The processes of a run. Where there is one, every method returns what it was given."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    @contextmanager
    def from_environment(cls, place: str) -> Iterator[ProcessGroup]:
        """The group that torchrun made this process a member of, or a group of one. ``place`` is ``cpu`` (gloo) or
        ``cuda`` (NCCL, one GPU a process)."""
        if "WORLD_SIZE" not in os.environ:
            yield cls()
            return
        if place == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        try:
            dist.init_process_group("nccl" if place == "cuda" else "gloo")
        except (ValueError, RuntimeError) as error:
            raise BadOption(
                f"WORLD_SIZE is set, but the processes of the run cannot meet ({error}); start them by torchrun, or "
                "unset it"
            ) from error
        try:
            yield cls(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of ``count`` things are this process's; `BadOption` when they cannot be shared evenly."""
        if count % self.size:
            raise BadOption(f"{count} styles a step cannot be shared by {self.size} processes; take a multiple")
        each = count // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Put the mean over all processes into every ``.grad``; one that no process has stays None."""
        if self.size == 1:
            return
        parameters = list(parameters)
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32)
        present = present.to(parameters[0].device)
        dist.all_reduce(present)
        touched = [p for p, found in zip(parameters, present.tolist(), strict=True) if found]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in touched])
        dist.all_reduce(flat)
        for parameter, part in zip(touched, torch.split(flat, [p.numel() for p in touched]), strict=True):
            parameter.grad = (part / self.size).reshape(parameter.shape)

    def mean(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Each figure's mean over the processes; all must bring the same names."""
        if self.size == 1:
            return dict(figures)
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=self._device)
        dist.all_reduce(values)
        return dict(zip(figures, (values / self.size).tolist(), strict=True))

    def agree(self, value: float) -> float:
        """The value of the leading process: clocks differ, and all must stop after the same step."""
        if self.size == 1:
            return value
        agreed = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.broadcast(agreed, 0)
        return float(agreed.item())

    @property
    def _device(self) -> str:
        return "cuda" if dist.get_backend() == "nccl" else "cpu"
