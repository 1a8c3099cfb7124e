"""Training a shared network: a warm start on many styles at once, then MetaStyle's bilevel phase or Reptile's.

A run is a folder: ``network.safetensors`` (the result), ``log.csv``, ``samples/``, and a checkpoint for
each phase, from which it goes on exactly where it was.
"""

from __future__ import annotations

import filecmp
import math
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidstyle.errors import BadModel, BadOption
from vidstyle.files import check_folder
from vidstyle.models.architecture import Network, architecture
from vidstyle.models.torch_net import TransformNet
from vidstyle.options import NetworkName, check_fields, within
from vidstyle.training.bilevel import Bilevel, InnerOptions
from vidstyle.training.data import Paintings, Photos, PictureFolder, picture_paths
from vidstyle.training.device import Compute, ProcessGroup
from vidstyle.training.loss import Features, LossWeights, Objective, Perceptual
from vidstyle.training.phases import MultiStyle, Phase, PhaseOptions, Reptile, ReptileOptions
from vidstyle.training.trainer import LOG_FILE, Checkpoint, Progress, Schedule, Trainer, TrainingLog, write_sheet

NETWORK_FILE = "network.safetensors"
HELD_OUT = 5
"""Without a folder of their own, every one in so many photos is kept for the outer loss."""
SHOWN = 4
"""Paintings on a sample sheet."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a shared network is trained. T, batches and image size are the paper's."""

    steps: int | None = within(None, 1, 10_000_000)
    """Outer steps of the bilevel or Reptile phase; see `Schedule`."""
    minutes: float | None = within(None, 1e-3, 1e6)
    warm_steps: int | None = within(None, 1, 10_000_000)
    """Steps of the multi-style phase before it; with neither this nor minutes there is none."""
    warm_minutes: float | None = within(None, 1e-3, 1e6)
    inner: InnerOptions = InnerOptions()
    reptile: ReptileOptions | None = None
    """What every step adapts to, if the start is to move towards where adaptations lead; None is the bilevel phase."""
    styles: int = within(4, 1, 256)
    """Paintings of an outer step."""
    batch: int = within(4, 1, 256)
    """Photo crops for each of them, in the inner steps and in the outer loss alike. The multi-style phase
    shows as many crops a step, each with another painting."""
    size: int = within(256, 32, 2048)
    style_size: int = within(384, 32, 2048)
    """Shorter side of the paintings in pixels, as in `AdaptOptions`."""
    weight_rate: float = within(1e-3, 1e-8, 1)
    """eta, Adam's learning rate for the weights, at its highest."""
    vector_rate: float = within(1e-2, 1e-8, 1)
    """Adam's learning rate for the start vector and the styles' vectors, at its highest."""
    loss: LossWeights = LossWeights()
    stable: float = within(10.0, 0, 1e6)
    """Weight of the instability: the same photo shifted and noisy should be painted the same."""
    seed: int = within(0, 0, 2**31)
    """Random weights, order of the paintings, photo crops."""
    features: Features = "shipped"
    """Where the VGG-16 of the loss comes from."""
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.size % 4:
            raise BadOption(f"size is {self.size}; it must be a multiple of 4")
        if not self._phases():
            raise BadOption("the run has no end; give a number of steps or of minutes")

    @property
    def _last(self) -> str:
        return "reptile" if self.reptile else "bilevel"

    def _phases(self) -> dict[str, Schedule]:
        given = {"warm": (self.warm_steps, self.warm_minutes), self._last: (self.steps, self.minutes)}
        return {
            name: Schedule(steps=steps, minutes=minutes, warm_up=min(200, (steps or 2000) // 20))
            for name, (steps, minutes) in given.items()
            if steps is not None or minutes is not None
        }


@dataclass(frozen=True)
class Data:
    """The pictures of a run."""

    styles: Path
    content: Photos
    """Photos of the inner steps and of the multi-style phase."""
    validation: Photos
    """Photos of the outer loss; none of them is among `content`."""

    @classmethod
    def in_folders(cls, styles: Path, content: Path, validation: Path | None, *, size: int) -> Data:
        """The pictures in three folders; without the third, every `HELD_OUT`-th photo of the second.

        ``size`` is that of the crops: photos are kept no larger than needed for them. `BadOption` names a
        photo that both folders hold; where one folder serves for both, copies of a held-out photo are left out.
        """
        paths = picture_paths(content)
        if validation is None:
            if len(paths) < HELD_OUT:
                raise BadOption(
                    f"{content} holds {len(paths)} photos; a part is kept for the outer loss: give {HELD_OUT} or more"
                )
            held_out = paths[::HELD_OUT]
            shared = {path for path, _ in _in_both(paths, held_out)}
            paths = [path for path in paths if path not in shared]
        else:
            held_out = picture_paths(validation)
            for path, other in _in_both(paths, held_out):
                raise BadOption(
                    f"{path} and {other} are the same photo; the outer loss wants photos that the inner "
                    "steps have not seen"
                )
        larger = math.ceil(size * 1.6)  # a crop is 0.6 of the shorter side or more
        inner, outer = (Photos(PictureFolder(p, shorter_side=larger)) for p in (paths, held_out))
        return cls(styles, inner, outer)


def _in_both(paths: list[Path], others: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Pairs of one of ``paths`` and one of ``others`` that hold the same bytes, whatever their names."""
    sizes: dict[int, list[Path]] = {}
    for path in paths:
        sizes.setdefault(path.stat().st_size, []).append(path)
    for other in others:
        for path in sizes.get(other.stat().st_size, []):
            with suppress(OSError):  # one that cannot be read will be skipped
                if path == other or filecmp.cmp(path, other, shallow=False):
                    yield path, other


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What a run leaves in its folder, and when."""

    folder: Path
    """Made if it is not there."""
    resume: bool = False
    """Go on from the checkpoints in it, if there are any."""
    every: int = 200
    """Steps between two checkpoints."""
    sample_every: int = 500
    """Steps between two sample sheets; 0 makes none."""
    tensorboard: bool = False


def random_network(name: NetworkName, seed: int = 0) -> Network:
    """A network called ``name`` with random weights."""
    shape = architecture(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(shape, TransformNet(shape).weights(), shape.identity_style())


def train(
    start: Network,
    data: Data,
    options: TrainOptions,
    keep: Keep,
    *,
    card: Mapping[str, object] | None = None,
    progress: Callable[[str, Progress], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Network:
    """The network that came of ``start``; also in ``keep.folder``, with a card that says how it was made.

    ``progress`` is told the phase (``warm``, ``bilevel`` or ``reptile``) and where it is, in the leading process. Under
    torchrun every process calls this alike. Interrupted, the run can go on from its checkpoints. Raises
    `BadOption`, `BadModel` and `ImageError`.

    ``note`` gets, at the end, a sentence on the pictures that were left out, and one on those that were changed.
    """
    compute = options.compute
    check_folder(keep.folder)
    keep.folder.mkdir(parents=True, exist_ok=True)
    replaces = keep.resume or (keep.folder / NETWORK_FILE).exists()  # not what another run writes meanwhile
    with compute.limits(), ProcessGroup.from_environment(compute.place) as group:
        if group.leads and not keep.resume:
            (keep.folder / LOG_FILE).unlink(missing_ok=True)  # of a run that is written over
        perceptual = Perceptual(compute.dtype, compute.place, features=options.features)
        paintings = Paintings(data.styles, options.style_size, perceptual)
        run, network, history = _Run(data, paintings, options, keep, group, progress), start, []
        for name, schedule in options._phases().items():
            network, facts = run.phase(name, schedule, network)
            history.append(facts)
        hardware = _hardware(compute)  # inside the limits, which it names
        folders = [
            pictures
            for pictures in (paintings.pictures, data.content.pictures, data.validation.pictures)
            if isinstance(pictures, PictureFolder)
        ]
        skipped = {path: why for pictures in folders for path, why in pictures.skipped.items()}
        notes = {path: note for pictures in folders for path, note in pictures.notes.items()}
    finished = {
        **(card or {}),
        "phases": history,
        "loss": asdict(options.loss),
        "stable": options.stable,
        "paintings": len(paintings),
        "photos": len(data.content.pictures) + len(data.validation.pictures),
        "skipped": len(skipped),
        "hardware": hardware,
        "processes": group.size,
    }
    if group.leads:
        for sentence in (*_counted("were left out", skipped), *_counted("are used with a change", notes)):
            if note is not None:
                note(sentence)
        network.save(keep.folder / NETWORK_FILE, finished, overwrite=replaces)
    return network


_NOT_IDENTITY = ("compute", "steps", "minutes", "warm_steps", "warm_minutes")
"""A run may go on for longer than it was meant to, and on other hardware."""


@dataclass(frozen=True)
class _Run:
    data: Data
    paintings: Paintings
    options: TrainOptions
    keep: Keep
    group: ProcessGroup
    progress: Callable[[str, Progress], None] | None

    def phase(self, name: str, schedule: Schedule, start: Network) -> tuple[Network, dict[str, object]]:
        """The network that a phase makes of ``start``, and what is to be said of it."""
        options, keep, group, compute = self.options, self.keep, self.group, self.options.compute
        phase, rates = self._begun(name, start), [options.weight_rate, options.vector_rate]
        identity = {
            **{key: value for key, value in asdict(options).items() if key not in _NOT_IDENTITY},
            "phase": name,
            "arithmetic": compute.arithmetic,
            "processes": group.size,
            "network": start.digest[:16],
            "paintings": self.paintings.pictures.digest[:16],
            "photos": self.data.content.digest[:16],
            "validation": self.data.validation.digest[:16],
        }
        trainer = Trainer(phase.parameters, schedule, identity, group)
        path = keep.folder / f"{name}.checkpoint.safetensors"
        if keep.resume and path.exists():
            trainer.load(path)
        with phase, TrainingLog(keep.folder, tensorboard=keep.tensorboard and group.leads) as log:
            if group.leads:
                log.begin(name, trainer.step)

            def report(at: Progress) -> None:
                if not group.leads:
                    return
                log.write(name, at)
                if keep.sample_every and at.step % keep.sample_every == 0:
                    self._sample(keep.folder / "samples" / f"{name}-{at.step:06}.jpg", phase)
                if self.progress:
                    self.progress(name, at)

            trainer.run(
                phase.loss, checkpoint=Checkpoint(path=path, every=keep.every, resume=keep.resume), progress=report
            )
            network = phase.network()
        if not all(np.isfinite(array).all() for array in (network.start, *network.weights.values())):
            raise BadModel("the training diverged (numbers are not finite any more); use smaller learning rates")
        return network, {
            "phase": name,
            "steps": trainer.step,
            "minutes": round(trainer.seconds / 60, 1),
            "crops": options.styles * options.batch,
            "size": options.size,
            "style_size": options.style_size,
            "rates": rates,
            **({"inner": asdict(options.inner)} if name == "bilevel" else {}),
            **({"reptile": asdict(options.reptile)} if name == "reptile" and options.reptile else {}),
            "start": start.digest[:12],
        }

    def _begun(self, name: str, start: Network) -> Phase[Any]:
        options, data, compute = self.options, self.data, self.options.compute
        model = TransformNet.from_network(start).to(compute.place)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = Objective(model, self.paintings.perceptual, options.loss, compute, stable=options.stable)
        crops = 1 if name == "warm" else options.batch
        shows = PhaseOptions(
            count=options.styles * options.batch // crops,
            crops=crops,
            size=options.size,
            rates=(options.weight_rate, options.vector_rate),
            seed=options.seed,
            group=self.group,
        )
        if name == "warm":
            return MultiStyle(objective, self.paintings, data.content, start.start, shows)
        if options.reptile:
            return Reptile(objective, self.paintings, data.content, start.start, shows, options.reptile)
        photos = data.content, data.validation
        return Bilevel(objective, self.paintings, photos, start.start, shows, options.inner)

    def _sample(self, path: Path, phase: Phase[Any]) -> None:
        """The first paintings, and two photos like each of them."""
        size, indices = self.options.size, range(min(SHOWN, len(self.paintings)))
        rows = [[torch.ones(1, 3, size, size), *(self.paintings.thumbnail(i, size) for i in indices)]]
        for photo in torch.split(self.data.validation.middles(size, count=2), 1):
            rows.append([photo, *torch.split(phase.paint(indices, photo).float().cpu(), 1)])
        write_sheet(path, rows)


def _counted(what: str, sentences: Mapping[Path, str]) -> list[str]:
    """A sentence that counts pictures and says of the first three why, or none."""
    if not sentences:
        return []
    more = "; ..." if len(sentences) > 3 else ""
    return [f"{len(sentences)} pictures {what}: {'; '.join([*sentences.values()][:3])}{more}"]


def _hardware(compute: Compute) -> str:
    if compute.place == "cuda":
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of {platform.processor() or platform.machine()}"
