"""The run over named tensors: it stops where numbers run away, and keeps what it has when told to go."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidstyle.errors import BadModel
from vidstyle.models.checkpoint import MAX_FILE_BYTES, read_tensors
from vidstyle.training import trainer as module
from vidstyle.training.trainer import FILE_FORMAT, FILE_VERSION, Checkpoint, Progress, Schedule, Trainer


class Bowl:
    """Two tensors, of which every step sees one, on their way to the middle."""

    def __init__(self, steps: int = 6, **schedule: Any) -> None:
        self.tensors = [torch.full((3,), 2.0, requires_grad=True), torch.full((2, 2), 5.0, requires_grad=True)]
        named = {"a": (self.tensors[0], 0.1), "b": (self.tensors[1], 0.01)}
        self.trainer = Trainer(named, Schedule(steps=steps, **schedule), {"bowl": 1})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        return self.tensors[step % 2].square().sum(), {}

    def values(self) -> list[float]:
        return [value for tensor in self.tensors for value in tensor.flatten().tolist()]


def stored(path: Path) -> dict[str, Any]:
    return dict(read_tensors(path, file_format=FILE_FORMAT, version=FILE_VERSION).tensors)


def test_tensors_of_one_rate_move_at_that_rate() -> None:
    bowl = Bowl(steps=2)
    bowl.trainer.run(bowl.loss)
    first, second = bowl.trainer.schedule.factor(0), bowl.trainer.schedule.factor(1)
    assert bowl.values()[:3] == pytest.approx([2 - 0.1 * first] * 3)  # Adam's first step is one rate long
    assert bowl.values()[3:] == pytest.approx([5 - 0.01 * second] * 4)


def test_a_tensor_that_a_step_does_not_see_keeps_its_value() -> None:
    bowl = Bowl(steps=1)
    bowl.trainer.run(bowl.loss)
    assert bowl.values()[3:] == [5.0] * 4


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_one_who_is_told_to_go_keeps_the_last_whole_step(stop: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    whole, first, second = Bowl(), Bowl(), Bowl()
    whole.trainer.run(whole.loss)

    def leave(step: int) -> tuple[Tensor, dict[str, float]]:
        if step == 3:
            raise stop
        return first.loss(step)

    with pytest.raises(stop):
        first.trainer.run(leave, checkpoint=Checkpoint(path=path, every=100))
    assert first.trainer.step == 3
    second.trainer.run(second.loss, checkpoint=Checkpoint(path=path, resume=True))
    assert second.values() == whole.values()


def test_an_interrupt_inside_the_optimizer_costs_only_that_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, first, second = Bowl(), Bowl(), Bowl()
    whole.trainer.run(whole.loss)
    step, calls = torch.optim.Adam.step, count(1)

    def interrupted(self: torch.optim.Adam) -> None:
        step(self)
        if next(calls) == 3:
            raise KeyboardInterrupt

    kept = Checkpoint(path=tmp_path / "run.safetensors", resume=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.Adam, "step", interrupted)
        first.trainer.run(first.loss, checkpoint=kept)
    second.trainer.load(kept.path)
    assert first.trainer.step == second.trainer.step == 2
    second.trainer.run(second.loss, checkpoint=kept)
    assert second.values() == whole.values()


@pytest.mark.parametrize(("seconds", "every", "expected"), [(50, 100, [3, 6, 8]), (1, 3, [3, 6, 8])])
def test_a_checkpoint_is_written_every_so_many_steps_and_seconds_and_at_the_end(
    seconds: int, every: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(0, seconds)  # a step takes so long
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    writes: list[int] = []
    monkeypatch.setattr(module._State, "write", lambda state, path: writes.append(state.step))
    bowl = Bowl(steps=8)
    bowl.trainer.run(bowl.loss, checkpoint=Checkpoint(path=tmp_path / "run.safetensors", every=every))
    assert writes == expected


def test_the_learning_rate_rises_and_then_falls_to_nothing() -> None:
    factors = [Schedule(steps=100, warm_up=10).factor(step) for step in range(100)]
    assert factors[:10] == sorted(factors[:10]) and factors[10:] == sorted(factors[10:], reverse=True)
    assert max(factors) == 1 and factors[0] < 0.1 and 0 < factors[-1] < 0.001


def test_a_checkpoint_keeps_the_values_of_any_memory_layout(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    values = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    weight = values.contiguous(memory_format=torch.channels_last).clone().requires_grad_()
    trainer = Trainer({"w": (weight, 1e-9)}, Schedule(steps=1), {})
    trainer.run(lambda step: (weight.square().sum(), {}), checkpoint=Checkpoint(path=path))
    assert stored(path).keys() == {"w", "w/exp_avg", "w/exp_avg_sq"}
    np.testing.assert_allclose(stored(path)["w"], values, atol=1e-6)
    np.testing.assert_allclose(stored(path)["w/exp_avg"], 0.1 * 2 * values, rtol=1e-5)


def test_numbers_that_run_away_end_the_run_and_spare_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    bowl = Bowl()

    def diverge(step: int) -> tuple[Tensor, dict[str, float]]:
        total, terms = bowl.loss(step)
        return (total * float("nan") if step == 3 else total), terms

    with pytest.raises(BadModel, match=r"diverged \(at step 4 .*smaller learning rates"):
        bowl.trainer.run(diverge, checkpoint=Checkpoint(path=path, every=1))
    assert all(np.isfinite(array).all() for array in stored(path).values())


def test_every_step_tells_its_losses_and_the_total() -> None:
    bowl, seen = Bowl(steps=2), list[Progress]()
    bowl.trainer.run(lambda step: (bowl.loss(step)[0], {"style": 1.5}), progress=seen.append)
    assert [at.losses for at in seen] == [{"style": 1.5, "total": 12.0}, {"style": 1.5, "total": 100.0}]
    assert [(at.step, at.steps) for at in seen] == [(1, 2), (2, 2)]


def test_a_run_may_go_on_for_longer_and_not_end_before_it_is(tmp_path: Path) -> None:
    kept = Checkpoint(path=tmp_path / "run.safetensors", resume=True)
    short, long, shorter = Bowl(steps=3), Bowl(steps=5), Bowl(steps=2)
    short.trainer.run(short.loss, checkpoint=kept)
    long.trainer.run(long.loss, checkpoint=kept)
    assert long.trainer.step == 5
    with pytest.raises(BadModel, match="is at step 5, and this run has 2; give it more steps"):
        shorter.trainer.run(shorter.loss, checkpoint=kept)


def test_a_checkpoint_may_be_larger_than_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand paintings' vectors and moments are: such a checkpoint was written, and not read."""
    assert module.MAX_BYTES > 10 * MAX_FILE_BYTES
    kept, bowl = Checkpoint(path=tmp_path / "run.safetensors", resume=True), Bowl()
    bowl.trainer.run(bowl.loss, checkpoint=kept)
    monkeypatch.setattr(module, "MAX_BYTES", 64)  # it is this limit that counts
    with pytest.raises(BadModel, match="has at most"):
        bowl.trainer.load(kept.path)
