"""Torch on a GPU: its arithmetic, which needs none, and what only one can show."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from conftest import run_python
from networks import (
    fast_style,
    flat,
    hard_frames,
    photo_planes,
    planes_from_rgb,
    seeded_network,
    styled,
    whole_style,
    worst_psnr,
)
from torch.nn import functional

from vidstyle.backends import open_backend
from vidstyle.backends.base import Program
from vidstyle.backends.torch import TorchBackend
from vidstyle.backends.torch.cell_net import (
    CellNet,
    Kind,
    NormShape,
    cells_from_pixels,
    in_cells,
    pixels_from_cells,
    plain_norm,
)
from vidstyle.backends.torch.cuda import CudaBackend, choose_net
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.frame import FrameFormat, Planes
from vidstyle.gallery import load_style
from vidstyle.models.architecture import FAST, NORM_EPSILON, PAPER, Architecture, shared_network
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, Precision
from vidstyle.stylizer import network_program

BOTH = pytest.mark.parametrize("shape", [FAST, PAPER], ids=lambda shape: str(shape.name))
FORMS = [
    FrameFormat(height=1, width=1),
    FrameFormat(height=7, width=13, pixels="i420", full_range=True),
    FrameFormat(height=45, width=70),
    FrameFormat(height=45, width=71, pixels="nv12"),
    FrameFormat(height=48, width=64, pixels="i420", matrix="bt601"),
]
STYLES = ["starry_night", "great_wave", "the_scream", "paper/starry_night", "paper/grande_jatte", "paper/wheat_field"]
SIZE = (60, 84)


def program(form: FrameFormat, shape: Architecture = FAST) -> Program:
    return replace(network_program(shape, form), graph=lambda kind: pytest.fail("torch needs no graph"))


@cache
def reference(form: FrameFormat, shape: Architecture = FAST) -> TorchBackend:
    return TorchBackend(program(form, shape), BackendOptions(backend="torch", precision="fp32"))


def painted(net: CellNet, planes: Planes, style: Style) -> Planes:
    tensors = [torch.from_numpy(np.ascontiguousarray(plane)) for plane in planes]
    results = [torch.full_like(tensor, 99) for tensor in tensors]
    memory = net.new_style()
    memory.load(torch.from_numpy(net.styles.block(style)))
    net.paint(tensors, memory, results)
    return tuple(plane.numpy() for plane in results)


HARD = (
    "black",
    "white",
    "gray",
    "blue",
    "noise",
    "faint",
    "dark",
    "bright",
    "checkerboard of 8",
    "letterbox",
    "flower",
)


# The same picture


@BOTH
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_in_cells_a_network_paints_the_same(shape: Architecture, form: FrameFormat) -> None:
    planes = photo_planes("china", form)
    net = CellNet(shape, form, torch.float32, "cpu")
    for network, least in ((shared_network(shape.name), 80), (seeded_network(shape), 60))[
        : 2 if form is FORMS[2] else 1
    ]:
        expected = reference(form, shape).run(planes, styled(network))
        assert worst_psnr(painted(net, planes, styled(network)), expected) >= least


@pytest.mark.parametrize("name", ["great_wave", "paper/wheat_field"])
def test_in_half_every_frame_is_painted_as_in_float32(name: str) -> None:
    style = load_style(name)
    form, shape = FrameFormat(height=SIZE[0], width=SIZE[1], pixels="i420"), style.architecture
    net = CellNet(shape, form, torch.float16, "cpu")
    for what, rgb in hard_frames(SIZE, *HARD[::2]).items():
        planes = planes_from_rgb(rgb, form)
        found = worst_psnr(painted(net, planes, style), reference(form, shape).run(planes, style))
        assert found >= 40, f"{what}: {found:.1f} dB"


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_flat_frame_is_painted_flat_in_16_bits(shape: Architecture, dtype: torch.dtype) -> None:
    form = FrameFormat(height=32, width=40)
    net = CellNet(shape, form, dtype, "cpu")
    for level in (0, 3, 128, 255):
        (result,) = painted(net, (flat((level, level, level), form.size),), styled(shared_network(shape.name)))
        assert result.reshape(-1, 3).std(0).max() == 0


def test_the_style_and_the_planes_are_read_anew_each_time() -> None:
    form = FORMS[4]
    net = CellNet(FAST, form, torch.float16, "cpu")
    first, second = (photo_planes(name, form) for name in ("china", "coffee"))
    once = painted(net, first, fast_style())
    assert worst_psnr(painted(net, second, fast_style()), once) < 40
    assert worst_psnr(painted(net, first, whole_style("other", 1)), once) < 40
    assert worst_psnr(painted(net, first, fast_style()), once) == 99


# Its parts


@pytest.mark.parametrize(("kernel", "upsample", "cell"), [(3, 1, 1), (3, 2, 2), (9, 1, 4), (5, 2, 4)])
def test_a_convolution_in_cells_is_the_same_convolution(kernel: int, upsample: int, cell: int) -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.rand(5, 6, kernel, kernel, generator=random, dtype=torch.float64)
    picture = torch.rand(1, 6, 16, 24, generator=random, dtype=torch.float64)
    radius = kernel // 2
    padding = radius if upsample == 1 else 1
    padded = functional.pad(picture, (padding,) * 4, mode="reflect")
    expected = functional.conv2d(functional.interpolate(padded, scale_factor=upsample, mode="nearest"), weight)
    extra = padding * upsample - radius
    expected = expected[0, :, extra : extra + 16 * upsample, extra : extra + 24 * upsample]
    cells = cells_from_pixels(padded[0].permute(1, 2, 0), cell // upsample)
    folded = torch.from_numpy(in_cells(weight.numpy(), upsample, cell))
    result = functional.conv2d(cells.permute(2, 0, 1)[None], folded)[0].permute(1, 2, 0)
    torch.testing.assert_close(pixels_from_cells(result, cell), expected.permute(1, 2, 0))


NORMS = [
    NormShape(5, 7, 48),
    NormShape(2, 3, 32, cell=4),
    NormShape(6, 10, 16, cell=2, cell_out=2),
    NormShape(6, 10, 32, cell=2, radius=4, cell_out=4),
    NormShape(12, 9, 128),
    NormShape(2, 2, 128),
]


@pytest.mark.parametrize("shape", NORMS, ids=str)
def test_the_plain_norm_is_an_instance_norm_with_its_style_and_padding(shape: NormShape) -> None:
    x, style = torch.randn(shape.shape) * 3 + 5, torch.randn(2 * shape.channels)
    picture = pixels_from_cells(x, shape.cell).permute(2, 0, 1)[None]
    scale, shift = style.view(2, 1, -1, 1, 1)
    normed = functional.instance_norm(picture, eps=NORM_EPSILON) * scale
    expected = {"plain": (normed + shift).relu(), "centered": (normed + shift).relu() - shift.relu(), "add": normed}
    other = torch.randn(shape.shape_out)
    for kind, result in expected.items():
        padded = functional.pad(result, (shape.radius,) * 4, mode="reflect")[0].permute(1, 2, 0)
        cells = cells_from_pixels(padded, shape.cell_out) + (other if kind == "add" else 0)
        found = plain_norm(x, shape, style, kind, other if kind == "add" else None)  # type: ignore[arg-type]
        assert found.shape == shape.shape_out and found.is_contiguous()
        torch.testing.assert_close(found, cells, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("level", [0.0, -3.0, 6e4])
def test_a_norm_of_a_flat_picture_is_zero(level: float) -> None:
    shape = NORMS[0]
    x = torch.full(shape.shape, level, dtype=torch.float16)
    result = plain_norm(x, shape, torch.ones(2 * shape.channels), "centered", None)
    assert result.abs().max() == 0


def check_fused(device: str) -> None:
    """The kernels against torch's operations."""
    from vidstyle.backends.torch.triton_kernels import FusedNet, fused_norm

    for form in FORMS if device == "cuda" else [FORMS[1], FORMS[3]]:
        for name in ("fast", "paper"):
            network = shared_network(name)
            planes = [torch.from_numpy(plane).to(device) for plane in photo_planes("china", form)]
            found, expected = ([torch.full_like(plane, 99) for plane in planes] for _ in range(2))
            for kind, results in ((FusedNet, found), (CellNet, expected)):
                net = kind(network.architecture, form, torch.float32, device)
                memory = net.new_style()
                memory.load(torch.from_numpy(net.styles.block(styled(network))))
                net.paint(planes, memory, results)
            for a, b in zip(found, expected, strict=True):
                assert worst_psnr((a.cpu().numpy(),), (b.cpu().numpy(),)) >= 60
    assert choose_net(FAST, FORMS[2], torch.float16, torch.device(device))[0] is FusedNet

    kinds: tuple[Kind, ...] = ("centered", "plain", "add")
    large = [NormShape(180, 321, 48), NormShape(150, 130, 64, cell=2), NormShape(90, 160, 32, 2, 4, 4)]
    for shape in NORMS + (large if device == "cuda" else []):
        for dtype in (torch.float16, torch.float32, torch.bfloat16)[: 3 if device == "cuda" else 1]:
            x = (torch.randn(shape.shape, device=device) * 3 + 50).to(dtype)
            style = torch.randn(2 * shape.channels, device=device)
            for kind in kinds[: 3 if shape.cell == shape.cell_out == 1 else 2]:
                other = torch.randn(shape.shape_out, device=device).to(dtype) if kind == "add" else None
                found = fused_norm(x, shape, style, kind, other).float()
                expected = plain_norm(x, shape, style, kind, other).float()
                torch.testing.assert_close(found, expected, atol=2e-4, rtol=torch.finfo(dtype).eps * 2)
            flat_one = torch.full(shape.shape, 7.0, device=device, dtype=dtype)
            assert fused_norm(flat_one, shape, style, "centered", None).abs().max() == 0


def test_the_fused_network_paints_what_the_plain_one_does() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds")
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    run_python("import test_cell_net; test_cell_net.check_fused('cpu')", TRITON_INTERPRET="1", PYTHONPATH=path)


def test_without_triton_the_plain_network_serves_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "vidstyle.backends.torch.triton_kernels", raising=False)
    kind, name = choose_net(FAST, FORMS[2], torch.float32, torch.device("cpu"))
    assert kind is CellNet
    assert name.startswith("without Triton (")


# Choosing the GPU


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built for CUDA")
def test_a_gpu_without_cuda_in_torch_is_refused_in_a_sentence() -> None:
    with pytest.raises(MissingDependency, match="gpu is 0, but PyTorch .* was built without CUDA; install the CUDA b"):
        open_backend(program(FORMS[0]), BackendOptions(backend="torch", gpu=0))


def test_a_gpu_that_is_not_there_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadOption, match=r"gpu is 1, but PyTorch .* \(CUDA 13.0\) finds no NVIDIA GPU here"):
        open_backend(program(FORMS[0]), BackendOptions(backend="torch", gpu=1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BadOption, match="gpu is 2, but PyTorch sees 2 here, numbered from 0"):
        open_backend(program(FORMS[0]), BackendOptions(backend="torch", gpu=2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch has a GPU")
def test_without_a_gpu_it_is_the_reference_on_the_cpu() -> None:
    with open_backend(program(FORMS[0]), BackendOptions(backend="torch")) as backend:
        assert type(backend) is TorchBackend
        assert backend.description == f"PyTorch {torch.__version__} fp32 on cpu"


# On a GPU


def on_gpu(form: FrameFormat, shape: Architecture = FAST, precision: Precision = "auto") -> CudaBackend:
    backend = open_backend(program(form, shape), BackendOptions(backend="torch", gpu=0, precision=precision))
    assert isinstance(backend, CudaBackend)
    return backend


@pytest.mark.needs_cuda
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("form", FORMS, ids=str)
@BOTH
def test_a_gpu_paints_what_the_cpu_paints(shape: Architecture, form: FrameFormat, precision: Precision) -> None:
    style = styled(shared_network(shape.name))
    with on_gpu(form, shape, precision) as backend:
        for name in ("china", "coffee", "flower", "astronaut"):
            planes = photo_planes(name, form)
            expected = reference(form, shape).run(planes, style)
            assert worst_psnr(backend.run(planes, style), expected) >= (60 if precision == "fp32" else 40)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("name", STYLES)
def test_a_gpu_paints_hard_frames_in_half(name: str) -> None:
    style = load_style(name)
    form, shape = FrameFormat(height=360, width=640, pixels="i420"), style.architecture
    with on_gpu(form, shape) as backend:
        assert "fp16" in backend.description and "Triton" in backend.description
        assert (backend.in_flight, len(backend.network_seconds(5))) == (3, 5)
        for what, rgb in hard_frames(form.size, *HARD).items():
            planes = planes_from_rgb(rgb, form)
            found = worst_psnr(backend.run(planes, style), reference(form, shape).run(planes, style))
            assert found >= 40, f"{what}: {found:.1f} dB"


@pytest.mark.needs_cuda
def test_the_fused_network_works_on_a_gpu() -> None:
    check_fused("cuda")
