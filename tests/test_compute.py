"""Where training computes: choices are checked, a missing GPU is told, threads are put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vidstyle.errors import BadOption
from vidstyle.training.compute import Compute


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
