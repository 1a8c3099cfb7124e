"""Adam on named tensors, step by step, that can stop at any moment and continue exactly where it was; and its log.

What a step sees depends on its number alone (see `Photos.batch`), so a checkpoint is the tensors,
Adam's moments and the number of steps done.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from vidstyle.errors import BadModel, BadOption, MissingDependency
from vidstyle.models.checkpoint import read_tensors, write_tensors
from vidstyle.pipeline import Closing
from vidstyle.training.device import ProcessGroup

FILE_FORMAT = "vidstyle-checkpoint"
FILE_VERSION = "1"
MAX_BYTES = 4 << 30
"""The largest checkpoint that is read: with the vectors and moments of a hundred thousand paintings."""
LONGEST = 120.0
"""Seconds from one checkpoint to the next, however few steps they are."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What `torch.optim.Adam` remembers of a parameter, besides its own count of steps."""
LOG_FILE = "log.csv"
COLUMNS = (
    "phase",
    "step",
    "seconds",
    "total",
    "content",
    "style",
    "detail",
    "contrast",
    "tone",
    "variation",
    "instability",
    "before",
)


@dataclass(frozen=True)
class Progress:
    """Where a run is, after a step."""

    step: int
    steps: int
    """Steps in all; an estimate where the clock decides."""
    losses: dict[str, float]
    """Terms of this step's batch: content, style, variation, total."""
    seconds: float
    """Time spent so far, interrupted runs before included."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate over a run: a linear warm-up, then half a cosine down to nothing.

    The run ends with its steps or with its minutes, whichever comes first. The rates follow the one
    that is nearer to its end; those of a run with minutes depend on the clock.
    """

    steps: int | None = None
    """Steps in all; None leaves it to `minutes`."""
    minutes: float | None = None
    """Time in all, that of interrupted runs before included; None leaves it to `steps`."""
    warm_up: int = 0
    """Steps of the linear rise."""

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise BadOption("the run has no end; give a number of steps or of minutes")

    def share(self, step: int, seconds: float) -> float:
        """How much of the run is done after ``step`` steps and ``seconds``: 1 is all."""
        steps = (step - self.warm_up) / max(1, self.steps - self.warm_up) if self.steps else 0.0
        return max(0.0, steps, seconds / 60 / self.minutes if self.minutes else 0.0)

    def factor(self, step: int, seconds: float = 0.0) -> float:
        """What step number ``step`` (from 0) multiplies every learning rate with."""
        if step < self.warm_up:
            return (step + 1) / (self.warm_up + 1)
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.share(step, seconds)))

    def ends(self, step: int, seconds: float) -> bool:
        """Whether nothing is left to do."""
        return step == self.steps or (self.minutes is not None and seconds >= 60 * self.minutes)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a run is kept, and how often it is written."""

    path: Path
    every: int = 50
    """Most steps between two writes (see `LONGEST`); the last step and an interruption write too."""
    resume: bool = False
    """Continue from ``path`` if it is there (without it an existing file is written over)."""


class Trainer:
    """A run over ``parameters``, each with its learning rate.

    ``identity`` is everything that must be the same to continue a run (options, digests); a
    checkpoint with another identity is refused with a sentence that names the difference.
    """

    def __init__(
        self,
        parameters: Mapping[str, tuple[Tensor, float]],
        schedule: Schedule,
        identity: Mapping[str, object],
        group: ProcessGroup | None = None,
    ) -> None:
        self.parameters = {name: tensor for name, (tensor, _) in parameters.items()}
        self.schedule = schedule
        self.group = group or ProcessGroup()
        self.identity = json.dumps(dict(identity), sort_keys=True)
        self.step = 0
        self.seconds = 0.0
        self.notes: dict[str, object] = {}
        """Facts for people that a checkpoint carries along, such as the losses before the run."""
        # A group for each rate, not for each tensor: with a thousand style vectors Adam's own bookkeeping shows.
        groups: dict[float, list[Tensor]] = {}
        for tensor, rate in parameters.values():
            groups.setdefault(rate, []).append(tensor)
        self._rates = list(groups)
        self._adam = torch.optim.Adam([{"params": tensors, "lr": rate} for rate, tensors in groups.items()])

    def run(
        self,
        loss: Callable[[int], tuple[Tensor, dict[str, float]]],
        *,
        checkpoint: Checkpoint | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Take the steps that are left. ``loss(step)`` gives the scalar to descend and its terms.

        A parameter that a step's loss does not depend on keeps its value and its moments.
        Interrupted or told to exit, it writes the checkpoint of the last whole step, goes back to it and lets
        the exception pass; without a checkpoint it stays where that found it. Numbers that are not finite any
        more are a `BadModel`, before any checkpoint holds them.
        """
        if checkpoint and checkpoint.resume and checkpoint.path.exists():
            self.load(checkpoint.path)
        if self.group.agree(self.step) != self.step:
            raise BadModel(
                f"process {self.group.rank} is at step {self.step}, process 0 is not; all processes need the same "
                "checkpoint: put the run's folder where every machine sees it"
            )
        started = time.perf_counter() - self.seconds
        written = self.seconds
        whole = self._state()
        try:
            while not self.schedule.ends(self.step, self.seconds):
                for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
                    group["lr"] = rate * self.schedule.factor(self.step, self.seconds)
                self._adam.zero_grad(set_to_none=True)
                total, terms = loss(self.step)
                terms = {**terms, "total": terms.get("total", total.item())}
                terms = self.group.mean(terms)  # and so all processes see the end of a run that ends here
                if not all(math.isfinite(term) for term in terms.values()):
                    raise BadModel(
                        f"the numbers diverged (at step {self.step + 1} they are not finite any more); "
                        "use smaller learning rates"
                    )
                total.backward()  # type: ignore[no-untyped-call]
                self.group.average_gradients(self.parameters.values())
                self._adam.step()
                self.step += 1
                self.seconds = self.group.agree(time.perf_counter() - started)
                if checkpoint and self.group.leads:
                    # An interrupt may land inside the optimizer; what is written then is this copy.
                    whole = self._state()
                    due = self.step % checkpoint.every == 0 or self.seconds - written >= LONGEST
                    if due or self.schedule.ends(self.step, self.seconds):
                        whole.write(checkpoint.path)
                        written = self.seconds
                if progress:
                    progress(Progress(self.step, self._expected(), terms, self.seconds))
        except (KeyboardInterrupt, SystemExit):
            if checkpoint and self.group.leads:
                whole.write(checkpoint.path)
                self._take(whole, checkpoint.path)
            raise

    def _expected(self) -> int:
        share = self.schedule.share(self.step, self.seconds)
        return self.schedule.steps or max(self.step, round(self.step / max(share, 1e-6)))

    def _state(self) -> _State:
        found: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for name, parameter in self.parameters.items():
            found[name] = parameter.detach()
            if state := self._adam.state.get(parameter):
                counts[name] = int(state["step"])
                found.update({f"{name}/{moment}": state[moment] for moment in MOMENTS})
        # One copy: a GPU would be waited for as often as there are tensors, and there may be thousands.
        flat = torch.cat([tensor.flatten() for tensor in found.values()]).cpu()
        parts = torch.split(flat, [tensor.numel() for tensor in found.values()])
        tensors = {name: part.reshape(found[name].shape) for name, part in zip(found, parts, strict=True)}
        return _State(tensors, counts, self.step, self.seconds, self.identity, dict(self.notes))

    def load(self, path: Path) -> None:
        """Take over what a checkpoint holds; `BadModel` when it belongs to another run."""
        state = _State.read(path)
        if state.identity != self.identity:
            there, here = json.loads(state.identity), json.loads(self.identity)
            names = sorted(n for n in {*there, *here} if there.get(n) != here.get(n))
            what = ", ".join(f"{n} {there.get(n)!r} (now {here.get(n)!r})" for n in names)
            raise BadModel(f"{path} is a checkpoint of another run: it has {what}; use the same options or remove it")
        if state.step < 0 or (self.schedule.steps is not None and state.step > self.schedule.steps):
            raise BadModel(
                f"{path} is at step {state.step}, and this run has {self.schedule.steps}; give it more steps"
            )
        self._take(state, path)

    def _take(self, state: _State, path: Path) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state.tensor(path, name, parameter))
                if name in state.counts:
                    self._adam.state[parameter] = {
                        "step": torch.tensor(float(state.counts[name])),
                        **{m: state.tensor(path, f"{name}/{m}", parameter) for m in MOMENTS},
                    }
        self.step, self.seconds, self.notes = state.step, state.seconds, state.notes


@dataclass(frozen=True)
class _State:
    """A run between two steps, on its way to or from a file."""

    tensors: dict[str, Tensor]
    counts: dict[str, int]
    step: int
    seconds: float
    identity: str
    notes: dict[str, object]

    def write(self, path: Path) -> None:
        write_tensors(
            path,
            {name: tensor.numpy() for name, tensor in self.tensors.items()},
            file_format=FILE_FORMAT,
            version=FILE_VERSION,
            facts={
                "identity": self.identity,
                "step": str(self.step),
                "seconds": repr(self.seconds),
                "counts": json.dumps(self.counts),
            },
            card=self.notes,
        )

    @classmethod
    def read(cls, path: Path) -> _State:
        file = read_tensors(path, file_format=FILE_FORMAT, version=FILE_VERSION, max_bytes=MAX_BYTES)
        try:
            counts = {str(name): int(count) for name, count in json.loads(file.facts["counts"]).items()}
            identity = json.dumps(dict(json.loads(file.facts["identity"])), sort_keys=True)
            step, seconds = int(file.facts["step"]), float(file.facts["seconds"])
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise BadModel(f"{path} is a damaged checkpoint: its header does not read; remove it") from error
        tensors = {name: torch.from_numpy(array) for name, array in file.tensors.items()}
        return cls(tensors, counts, step, seconds, identity, file.card)

    def tensor(self, path: Path, name: str, like: Tensor) -> Tensor:
        found = self.tensors.get(name)
        if found is None or found.shape != like.shape:
            raise BadModel(f"{path} is a damaged checkpoint: it lacks {name!r} of shape {tuple(like.shape)}; remove it")
        return torch.empty_like(like).copy_(found)  # the strides too, so that the sums go on in the same order


class TrainingLog(Closing):
    """``log.csv`` in ``folder``, one line a step; with ``tensorboard`` event files in ``events/``, a run a phase.

    Lines after the step from which a run goes on are dropped: those steps are taken again.
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

    def close(self) -> None:
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
