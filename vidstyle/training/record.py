"""What a training run leaves to look at: losses as CSV (and for TensorBoard), pictures now and then."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from vidstyle.errors import MissingDependency
from vidstyle.training.descent import Progress

LOG_FILE = "log.csv"
COLUMNS = (
    "phase",
    "step",
    "seconds",
    "total",
    "content",
    "style",
    "tone",
    "variation",
    "instability",
    "before",
)


class Record:
    """``log.csv`` in ``folder``, one line a step; with ``tensorboard`` event files in ``events/``, a run a phase.

    A context manager. Lines after the step from which a run goes on are dropped: those steps are taken again.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        self._folder, self._path = folder, folder / LOG_FILE
        self._events: Any = None
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingDependency(
                    f"the log for TensorBoard needs its package ({error}); pip install tensorboard"
                ) from error
            self._writer = SummaryWriter

    def begin(self, phase: str, step: int) -> None:
        """Go on after step number ``step`` of ``phase``: what stands there of later steps is dropped."""
        rows: list[dict[str, str]] = []
        if self._path.exists():
            with self._path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if _whole(row)]
        kept = [row for row in rows if row["phase"] != phase or int(row["step"]) <= step]
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
        if self._writer is not None:
            self._events = self._writer(str(self._folder / "events" / phase), purge_step=step + 1 if step else None)

    def write(self, phase: str, at: Progress) -> None:
        """Add the line of a step."""
        figures = {name: f"{value:.6g}" for name, value in at.losses.items() if name in COLUMNS}
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writerow({"phase": phase, "step": at.step, "seconds": f"{at.seconds:.2f}", **figures})
        if self._events is not None:
            for name, value in at.losses.items():
                self._events.add_scalar(name, value, at.step)

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()


def _whole(row: dict[str, str]) -> bool:
    """Whether nothing of a line is missing: a machine that stopped may have left half of one."""
    return row.keys() == set(COLUMNS) and None not in row.values() and row["step"].isdigit()


def write_sheet(path: Path, rows: list[list[Tensor]]) -> None:
    """A grid of pictures as JPEG; each float RGB in [0, 1] of shape (1, 3, H, W), all of one size."""
    grid = torch.cat([torch.cat(row, 3) for row in rows], 2)[0]
    rgb = np.asarray((grid.permute(1, 2, 0).float().cpu() * 255).round().numpy(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
