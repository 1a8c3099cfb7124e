"""Several processes that train as one: each has its share of a step's styles, their gradients are averaged.

Started by `torchrun`, which says through the environment who is who. Gradients are averaged by hand, not
by `DistributedDataParallel`: its hooks do not see the inner steps of a bilevel problem.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from vidstyle.errors import BadOption


class Team:
    """The processes of a run. Alone, every method gives back what it was given."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    @contextmanager
    def from_environment(cls, place: str) -> Iterator[Team]:
        """The team that torchrun made this process a member of, or a team of one.

        ``place`` is ``cpu`` (gloo) or ``cuda`` (NCCL, one GPU a process).
        """
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
        """Whether this is the process that writes files and speaks."""
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
        told = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.broadcast(told, 0)
        return float(told.item())

    @property
    def _device(self) -> str:
        return "cuda" if dist.get_backend() == "nccl" else "cpu"
