"""Weights of the package's networks on disk: safetensors, 8 bits a weight.

A kernel has one scale for each of its output channels, or of its inputs where these are fewer than eight, in FP16;
biases are FP16. That is half of what FP16 takes; `tests/test_methods.py` holds how little it changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vidstyle.files import write_whole

SCALE = "/scale"
"""Ends the name of a kernel's scales."""


def write(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, object]) -> None:
    """Tensors of two dimensions or more as 8 bits with scales, others as FP16; ``card`` says how they came about."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        values = tensor.detach().float()
        if values.dim() < 2:
            packed[name] = values.half()
            continue
        scale = (values.abs().amax(_shared(values), keepdim=True) / 127).clamp_min(1e-7).half()
        packed[name + SCALE] = scale
        packed[name] = (values / scale.float()).round().clamp(-127, 127).to(torch.int8).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(packed, {"card": json.dumps(dict(card))}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors of a file in float32, and its card."""
    if not path.exists():
        raise SystemExit(f"{path} is not there; make it by `python -m benchmarks.methods.training` (see --help)")
    with safe_open(path, "pt") as file:
        card = json.loads((file.metadata() or {}).get("card", "{}"))
        packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    found = {}
    for name, tensor in packed.items():
        if not name.endswith(SCALE):
            scale = packed.get(name + SCALE)
            found[name] = tensor.float() if scale is None else tensor.float() * scale.float()
    return found, card


def load_into(module: nn.Module, path: Path) -> dict[str, object]:
    """Give a module the weights of a file; its card."""
    tensors, card = read(path)
    module.load_state_dict(tensors)
    return card


def _shared(kernel: Tensor) -> tuple[int, ...]:
    """The dimensions along which all numbers have one scale."""
    few_inputs = kernel.dim() == 2 and kernel.shape[1] < 8
    return (0,) if few_inputs else tuple(range(1, kernel.dim()))
