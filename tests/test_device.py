"""Where training computes, and processes that train as one (gloo, two processes on one CPU)."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import repository
from numpy.typing import NDArray
from pictures import painting_folder, photo_folder

from vidstyle.errors import BadOption
from vidstyle.models.architecture import Network
from vidstyle.training.device import Compute, ProcessGroup

# What every process of the group runs, and one process alone: the averaged gradients of one step.
STEPS = """
import sys
from pathlib import Path

import numpy as np
import torch

from vidstyle.errors import BadModel
from vidstyle.gallery import shared_network
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.bilevel import Bilevel, InnerOptions
from vidstyle.training.data import Paintings, Photos
from vidstyle.training.device import Compute, ProcessGroup
from vidstyle.training.loss import LossWeights, Objective, Perceptual
from vidstyle.training.phases import MultiStyle, PhaseOptions
from vidstyle.training.trainer import Checkpoint, Schedule, Trainer

torch.set_num_threads(1)
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
network = shared_network("fast")
paintings = Paintings(folder / "styles", 32, Perceptual())
photos = Photos.in_folder(folder / "content"), Photos.in_folder(folder / "validation")

with ProcessGroup.from_environment("cpu") as group:
    found = {}

    def keep(name, phase):
        with phase:
            total, terms = phase.loss(0)
            total.backward()
        tensors = {key: tensor for key, (tensor, _) in phase.parameters.items()}
        group.average_gradients(tensors.values())
        found.update({f"{name}/{key}": t.grad.numpy() for key, t in tensors.items() if t.grad is not None})
        found.update({f"{name}/{key}": np.array(value) for key, value in group.mean(terms).items()})

    def objective():
        model = TransformNet.from_network(network).to(memory_format=torch.channels_last)
        compute = Compute(device="cpu", arithmetic="fp32")
        return Objective(model, paintings.perceptual, LossWeights(), compute, stable=10.0)

    settings = dict(count=4, size=32, rates=(1e-3, 1e-2), seed=0, group=group)
    keep("warm", MultiStyle(objective(), paintings, photos[0], network.start, PhaseOptions(**settings)))
    for moves in ("norm", "all"):
        shows = PhaseOptions(crops=2, **settings)
        inner = InnerOptions(rate=1e-3, moves=moves)
        keep(moves, Bilevel(objective(), paintings, photos, network.start, shows, inner))

    # The clock of process 0 decides: that of the other one would end at once.
    x = torch.zeros(1, requires_grad=True)
    trainer = Trainer({"x": (x, 1.0)}, Schedule(minutes=1e-3), {}, group)
    trainer.run(lambda step: (x.sum(), {}))
    found["clock/steps"] = np.array(group.mean({"steps": trainer.step})["steps"])
    found["clock/own"] = np.array(trainer.step)
    found["agreed"] = np.array(group.agree(10.0 + group.rank))
    # A painting that one process alone has seen, and one that none has.
    seen, unseen = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    if group.rank == group.size - 1:
        seen.grad = torch.ones(2)
    group.average_gradients([seen, unseen])
    assert unseen.grad is None
    found["seen"] = seen.grad.numpy()
    np.savez(out / f"{group.size}-{group.rank}.npz", **found)

    # Process 1 does not see the checkpoint of process 0: it is on another machine.
    if group.size > 1:
        path = out / str(group.rank) / "x.safetensors"
        path.parent.mkdir()
        for steps in (1, 2):
            lost = Trainer({"x": (torch.zeros(1, requires_grad=True), 1.0)}, Schedule(steps=steps), {}, group)
            try:
                lost.run(lambda step: (lost.parameters["x"].sum(), {}), checkpoint=Checkpoint(path=path, resume=True))
            except BadModel as error:
                (out / "lost").write_text(str(error))
                raise SystemExit(3)
"""


def environment() -> dict[str, str]:
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return {**kept, "PYTHONPATH": str(repository()), "OMP_NUM_THREADS": "1"}


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """``arguments`` in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, *(str(a) for a in arguments)], env=environment(), capture_output=True, text=True, timeout=300
    )


class Gradients(NamedTuple):
    """What one process found alone, and each of two together; what came of them."""

    alone: Mapping[str, NDArray[np.float32]]
    together: list[Mapping[str, NDArray[np.float32]]]
    out: Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    painting_folder(folder / "styles", 5)
    photo_folder(folder / "content", 3)
    photo_folder(folder / "validation", 2, first=20)
    return folder


@pytest.fixture(scope="module")
def gradients(folder: Path) -> Gradients:
    script = folder / "steps.py"
    script.write_text(STEPS)
    alone = [sys.executable, str(script), str(folder), str(folder)]
    one = subprocess.run(alone, env=environment(), capture_output=True, text=True, timeout=300)
    assert one.returncode == 0, one.stderr
    torchrun(script, folder, folder)  # it ends in the failure that `lost` is about
    names = ["1-0", "2-0", "2-1"]
    found = []
    for name in names:
        with np.load(folder / f"{name}.npz") as file:
            found.append(dict(file))
    return Gradients(found[0], found[1:], folder)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["warm", "norm", "all"])
def test_two_processes_find_the_gradients_of_one_with_the_joined_batch(phase: str, gradients: Gradients) -> None:
    for other in gradients.together:
        assert other.keys() == gradients.alone.keys()
        for name, expected in gradients.alone.items():
            part, _, tensor = name.partition("/")
            if part != phase or tensor.endswith(".bias"):  # before a norm their gradients are nothing but rounding
                continue
            difference, size = np.linalg.norm(other[name] - expected), np.linalg.norm(expected)
            assert difference < 2e-3 * size, (name, difference / size)


@pytest.mark.slow
def test_all_processes_have_the_same_gradients_to_the_bit(gradients: Gradients) -> None:
    first, second = gradients.together
    names = [name for name in first if name != "clock/own"]
    assert all(np.array_equal(first[name], second[name]) for name in names)


@pytest.mark.slow
def test_minutes_end_on_the_same_step_and_a_gradient_of_one_counts_for_all(gradients: Gradients) -> None:
    first, second = gradients.together
    assert first["clock/own"] == second["clock/own"] == first["clock/steps"] >= 1
    assert first["agreed"] == second["agreed"] == 10

    assert gradients.alone["seen"].tolist() == [1, 1]
    assert [other["seen"].tolist() for other in gradients.together] == [[0.5, 0.5]] * 2


@pytest.mark.slow
def test_a_process_that_does_not_see_the_checkpoint_says_so(gradients: Gradients) -> None:
    """It would begin anew, and the others would go on."""
    text = (gradients.out / "lost").read_text()
    assert "process 1 is at step 0, process 0 is not" in text and "where every machine sees it" in text


@pytest.mark.slow
def test_a_run_of_two_processes_writes_one_network_and_one_log(folder: Path, tmp_path: Path) -> None:
    pictures = ["--styles", folder / "styles", "--content", folder / "content"]
    pictures += ["--val-content", folder / "validation"]
    tiny = ["--styles-per-step", 2, "--batch", 1, "--size", 32, "--style-size", 32, "--threads", 1, "--device", "cpu"]
    tiny += ["--arithmetic", "fp32", "--sample-every", 1, "--warm-steps", 1, "--steps", 2]
    result = torchrun("-m", "vidstyle", "--", "train", *pictures, *tiny, "--run", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    network = Network.load(tmp_path / "run" / "network.safetensors")
    assert result.stdout.splitlines() == [f"{tmp_path}/run/network.safetensors: fast network {network.digest[:12]}"]
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = [(row["phase"], row["step"]) for row in csv.DictReader(file)]
    assert rows == [("warm", "1"), ("bilevel", "1"), ("bilevel", "2")]
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    checkpoints = ["bilevel.checkpoint.safetensors", "warm.checkpoint.safetensors"]
    assert names == sorted([*checkpoints, "log.csv", "network.safetensors", "samples"])


# Without torchrun


def test_one_process_is_a_group_that_leaves_everything_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with ProcessGroup.from_environment("cpu") as group:
        x = torch.ones(2, requires_grad=True)
        x.grad = torch.full((2,), 3.0)
        group.average_gradients([x])
        assert x.grad.tolist() == [3, 3]
        assert group.leads and group.size == 1
        assert group.mean({"total": 2.0}) == {"total": 2.0} and group.agree(5.0) == 5.0


def test_shares_are_even_and_leave_nothing_out() -> None:
    assert [list(ProcessGroup(rank, 3).share(6)) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert [ProcessGroup(rank, 3).leads for rank in range(3)] == [True, False, False]
    with pytest.raises(BadOption, match="4 styles a step cannot be shared by 3 processes; take a multiple"):
        ProcessGroup(0, 3).share(4)


def test_an_environment_that_names_no_meeting_point_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadOption, match="cannot meet .*torchrun"), ProcessGroup.from_environment("cpu"):
        pass


# Device, arithmetic and threads


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arithmetic": "fp8"}, "arithmetic is 'fp8'"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_choices_are_checked_when_made(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadOption, match=sentence):
        Compute(**changes)


def test_a_missing_gpu_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadOption, match="use --device cpu"):
        Compute(device="cuda")
    assert Compute().place == "cpu"


def test_the_arithmetic_asked_for_is_the_one_of_the_forward_pass() -> None:
    weight = torch.ones(2, 2)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        compute = Compute(arithmetic=name, device="cpu")  # type: ignore[arg-type]
        with compute.autocast():
            assert (weight @ weight).dtype == compute.dtype == dtype


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with Compute(threads=1).limits():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
