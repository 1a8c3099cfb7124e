"""The loss: which layers, which scale, where the gradient goes, what counts as unstable."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from vidstyle.data import PHOTOS, VGG_FILE
from vidstyle.errors import BadModel, BadOption, MissingDependency
from vidstyle.training import loss as module
from vidstyle.training.contrast import MATCHED, band_contrasts, luma
from vidstyle.training.data import painting_tensor, read_picture
from vidstyle.training.loss import (
    BLOCKS,
    MEAN_RGB,
    NOISE,
    REACH,
    LossWeights,
    Perceptual,
    contrasts,
    disturb,
    from_torchvision,
    instability,
    statistics,
)


@pytest.fixture(scope="module")
def vgg() -> Perceptual:
    return Perceptual()


def picture(seed: int, count: int = 1, height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_the_shipped_weights_are_vgg16_to_conv4_3() -> None:
    shapes = {name: tuple(t.shape) for name, t in module._vgg_tensors().items()}
    channels = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512)
    names = [name for block in BLOCKS for name in block]
    expected = {}
    for name, inputs, outputs in zip(names, channels, channels[1:], strict=False):
        expected |= {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}
    assert shapes == expected
    assert VGG_FILE.stat().st_size < 16 << 20


def test_features_are_the_last_relu_of_each_block(vgg: Perceptual) -> None:
    features = vgg.features(picture(0, 2))
    assert [tuple(f.shape) for f in features] == [(2, 64, 48, 64), (2, 128, 24, 32), (2, 256, 12, 16), (2, 512, 6, 8)]
    assert all((f >= 0).all() and (f > 0).any() for f in features)


def test_the_first_convolution_sees_rgb_minus_the_mean(vgg: Perceptual) -> None:
    rgb = picture(1, height=16, width=16)
    weights = {name: t.double().numpy() for name, t in module._vgg_tensors().items()}
    x = rgb[0].double().numpy() * 255 - np.array(MEAN_RGB).reshape(3, 1, 1)
    for name in BLOCKS[0]:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        sums = np.einsum("oikl,ihwkl->ohw", weights[f"{name}.weight"], windows, optimize=True)
        x = np.maximum(sums + weights[f"{name}.bias"][:, None, None], 0)
    torch.testing.assert_close(vgg.features(rgb, 0)[0][0], torch.from_numpy(x).float(), rtol=1e-4, atol=1e-2)


def test_a_picture_has_no_distance_from_itself(vgg: Perceptual) -> None:
    rgb = picture(2)
    losses = vgg.losses(rgb, vgg.content_target(rgb), vgg.style_target(rgb))
    assert losses.content.item() == pytest.approx(0, abs=1e-6)
    assert losses.style.item() == pytest.approx(0, abs=1e-6)


def test_terms_do_not_depend_on_the_scale_of_their_target(vgg: Perceptual) -> None:
    """Nothing at all is 1 from every content and 2 from every style; much too much of a style is no farther."""
    content, style = vgg.content_target(picture(3)).features, vgg.style_target(picture(4))[:4]
    nothing = torch.zeros(1)
    assert module._relative_error(nothing.expand_as(content), content * 1000).item() == pytest.approx(1)
    for layer in style:
        assert module._style_error(nothing.expand_as(layer), layer / 1000).item() == pytest.approx(2)
        assert module._style_error(layer * 1e4, layer).item() == pytest.approx(2, rel=1e-3)
        assert module._style_error(layer * 1.01, layer).item() == pytest.approx(1e-4, rel=0.02)


def test_statistics_are_the_covariance_and_the_mean_of_channels() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 5.0]]]])  # two channels, two positions
    assert statistics(features).tolist() == [[[0.25, 0.5], [0.5, 1.0], [1.5, 4.0]]]


def test_contrasts_are_those_that_styles_are_judged_by(vgg: Perceptual) -> None:
    photo = painting_tensor(read_picture(PHOTOS / "china.jpg"), 192)
    levels = luma(255 * photo[0].permute(1, 2, 0).numpy())
    found = contrasts(photo)
    np.testing.assert_allclose(255 * found[0].numpy(), band_contrasts(levels)[MATCHED], rtol=0.002)
    torch.testing.assert_close(contrasts(photo / 2), found / 2, rtol=0.02, atol=0)
    assert contrasts(photo[..., :40, :]).shape == (1, 3)


def test_what_is_too_flat_or_too_bold_is_farther_from_the_contrast_of_a_painting(vgg: Perceptual) -> None:
    painting = painting_tensor(read_picture(PHOTOS / "china.jpg"), 192)
    style = vgg.style_target(painting)

    def error(boldness: float) -> float:
        painted = 0.5 + boldness * (painting - 0.5)
        return vgg.losses(painted, vgg.content_target(painting), style).contrast.item()

    assert error(1) == pytest.approx(0, abs=1e-6)
    assert error(0.9) == pytest.approx(2 * 0.1**2 / (1 + 0.9**2), rel=0.05)
    assert error(0) == pytest.approx(2, abs=0.15)  # but for the least that a contrast counts
    assert 0 < error(1.1) < error(1.2)


def test_a_photo_s_tones_are_asked_for_as_the_painting_has_them(vgg: Perceptual) -> None:
    """Black as its darkest, white as its lightest tone, whatever lies between in its order."""
    levels = torch.linspace(0.2, 0.6, 8).repeat_interleave(8)
    painting = levels.expand(1, 3, 64, 64)
    style = vgg.style_target(painting)
    torch.testing.assert_close(style[-1][0, [0, 16, 32]], torch.tensor([0.2, 0.4, 0.6]))
    photo = torch.linspace(0, 1, 8).repeat_interleave(8).expand(1, 3, 64, 64)
    content = vgg.content_target(photo)
    assert vgg.losses(painting, content, style).tone.item() == pytest.approx(0, abs=1e-3)
    # A gray picture is as far from it as the tones spread.
    assert vgg.losses(torch.full_like(photo, 0.4), content, style).tone.item() == pytest.approx(1, abs=0.05)


def test_details_are_the_same_in_other_contrasts_and_gone_in_another_picture(vgg: Perceptual) -> None:
    photo, other = picture(3), picture(4)
    content, style = vgg.content_target(photo), vgg.style_target(other)
    duller, strange = (vgg.losses(rgb, content, style).detail.item() for rgb in (0.3 + 0.4 * photo, other))
    assert vgg.losses(photo, content, style).detail.item() == pytest.approx(0, abs=1e-3)
    assert duller < 0.1 * strange and 0.5 < strange < 1.5


def test_weights_are_checked_and_make_the_total(vgg: Perceptual) -> None:
    with pytest.raises(BadOption, match="style weight is nan"):
        LossWeights(style=float("nan"))
    losses = vgg.losses(picture(5, 2), vgg.content_target(picture(6, 2)), vgg.style_target(picture(7)))
    total = losses.total(LossWeights(content=1, style=2, detail=5, contrast=6, variation=3, tone=4))
    assert total.shape == (2,)
    expected = losses.content + 2 * losses.style + 5 * losses.detail
    expected = expected + 6 * losses.contrast + 3 * losses.variation + 4 * losses.tone
    torch.testing.assert_close(total, expected)


def test_a_batch_is_the_mean_of_its_pictures_and_one_target_serves_all(vgg: Perceptual) -> None:
    painted, photo, style = picture(5, 2), picture(6, 2), vgg.style_target(picture(7))
    both = vgg.losses(painted, vgg.content_target(photo), style).figures()
    each = [vgg.losses(painted[i : i + 1], vgg.content_target(photo[i : i + 1]), style).figures() for i in (0, 1)]
    assert both == {term: pytest.approx((each[0][term] + each[1][term]) / 2, rel=1e-4) for term in both}


def test_variation_is_the_mean_step_between_neighbors(vgg: Perceptual) -> None:
    columns = torch.tensor([0.0, 1.0]).repeat(16).expand(1, 3, 32, 32)
    losses = vgg.losses(columns, vgg.content_target(columns), vgg.style_target(columns))
    assert losses.variation.item() == pytest.approx(1)


def test_the_gradient_reaches_the_picture_and_descends(vgg: Perceptual) -> None:
    rgb = picture(8).requires_grad_()
    content, style = vgg.content_target(picture(9)), vgg.style_target(picture(10))
    assert not content.features.requires_grad and not any(g.requires_grad for g in style)
    before = vgg.losses(rgb, content, style)
    (slope,) = torch.autograd.grad(before.content + before.style, rgb)
    assert slope.abs().min() > 0  # every pixel counts, the border too
    after = vgg.losses(rgb.detach() - 0.01 * slope / slope.abs().max(), content, style)
    assert after.content + after.style < before.content + before.style


def plain_features(rgb: torch.Tensor) -> list[torch.Tensor]:
    """VGG-16's features by torch's own differentiation."""
    weights = {name: t.double() for name, t in module._vgg_tensors().items()}
    x, found = rgb * 255 - torch.tensor(MEAN_RGB, dtype=torch.float64).reshape(1, 3, 1, 1), []
    for index, block in enumerate(BLOCKS):
        x = functional.max_pool2d(x, 2) if index else x
        for name in block:
            x = functional.relu(functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1))
        found.append(x)
    return found


def test_its_own_derivatives_are_torch_s_to_the_second_order() -> None:
    """In float64: features, statistics, the gradient of a loss of both, and the gradient of its length."""
    exact, rgb = Perceptual(torch.float64), picture(14, 2, 16, 24).double().requires_grad_()

    def plain_statistics(f: torch.Tensor) -> torch.Tensor:
        flat = f.flatten(2)
        mean = flat.mean(2, keepdim=True)
        covariance = (flat - mean) @ (flat - mean).transpose(1, 2) / f[0, 0].numel()
        return torch.cat([covariance, mean.transpose(1, 2)], 1)

    def derivatives(features: Callable[..., list[torch.Tensor]], product: Callable[..., torch.Tensor]) -> list[Any]:
        found = features(rgb)
        loss = sum((product(f) * 1e-4).square().mean() + (f * 1e-2).pow(3).mean() for f in found)
        (first,) = torch.autograd.grad(loss, rgb, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), rgb)
        return [*found, first, second]

    for ours, theirs in zip(
        derivatives(exact.features, statistics), derivatives(plain_features, plain_statistics), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradients_keep_the_memory_order_of_the_features(vgg: Perceptual) -> None:
    features = [f.detach().requires_grad_() for f in vgg.features(picture(15))]
    gradients = torch.autograd.grad(sum(statistics(f).square().sum() for f in features), features)
    assert all(g.is_contiguous(memory_format=torch.channels_last) for g in gradients)


def test_bf16_agrees_with_fp32(vgg: Perceptual) -> None:
    half = Perceptual(torch.bfloat16)
    painted, photo, painting = picture(11), picture(12), picture(13)
    exact = vgg.losses(painted, vgg.content_target(photo), vgg.style_target(painting)).figures()
    rough = half.losses(painted, half.content_target(photo), half.style_target(painting)).figures()
    assert rough == {term: pytest.approx(value, rel=0.03) for term, value in exact.items()}


def test_missing_weights_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VGG_FILE", tmp_path / "gone.safetensors")
    module._vgg_tensors.cache_clear()
    try:
        with pytest.raises(BadModel, match="cannot read gone.safetensors .* install it again"):
            Perceptual()
    finally:
        module._vgg_tensors.cache_clear()


# torchvision's copy of the loss network

# Where the thirteen convolutions stand in torchvision's `vgg16().features`, among its ReLUs and poolings.
POSITIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def torchvision_state() -> dict[str, torch.Tensor]:
    """Tensors as torchvision names them, with the shipped numbers in them."""
    shipped = module._vgg_tensors()
    names = [name for block in BLOCKS for name in block] + ["conv5"] * 3
    return {
        f"{at}.{leaf}": shipped.get(f"{name}.{leaf}", torch.zeros((512, 512, 3, 3) if leaf == "weight" else (512,)))
        for at, name in zip(POSITIONS, names, strict=True)
        for leaf in ("weight", "bias")
    }


def test_torchvision_s_tensors_have_the_names_of_their_positions() -> None:
    state = torchvision_state()
    # In any order, and whatever their type.
    found = from_torchvision({name: state[name].double() for name in reversed(state)})
    shipped = module._vgg_tensors()
    assert found.keys() == shipped.keys()
    assert all(torch.equal(found[name], shipped[name]) and found[name].dtype == torch.float32 for name in shipped)


def test_torchvision_s_network_has_the_same_features(vgg: Perceptual, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_torchvision_tensors", lambda: from_torchvision(torchvision_state()))
    other, rgb = Perceptual(features="torchvision"), picture(0, height=32, width=32)
    assert all(torch.equal(a, b) for a, b in zip(vgg.features(rgb), other.features(rgb), strict=True))


@pytest.mark.parametrize("broken", [ImportError("No module named 'torchvision'"), RuntimeError("operator nms")])
def test_a_torchvision_that_cannot_be_imported_is_a_sentence(
    broken: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises a RuntimeError beside a torch that it was not made for."""

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name.startswith("torchvision"):
                raise broken

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    module._torchvision_tensors.cache_clear()
    with pytest.raises(MissingDependency, match=f"no loss network here: {broken}; install .*--perceptual shipped"):
        Perceptual(features="torchvision")


def test_the_real_torchvision_has_the_shipped_network_s_positions() -> None:
    try:
        from torchvision.models import vgg16
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    shapes = {name: tensor.shape for name, tensor in from_torchvision(vgg16().features.state_dict()).items()}
    assert shapes == {name: tensor.shape for name, tensor in module._vgg_tensors().items()}


# Instability


def spot(height: int = 24, width: int = 32) -> torch.Tensor:
    """Random colors in the middle of gray: float RGB (2, 3, height, width)."""
    rgb = torch.full((2, 3, height, width), 0.5)
    inner = rgb[..., 2 * REACH : -2 * REACH, 2 * REACH : -2 * REACH]
    inner.copy_(torch.rand(inner.shape, generator=torch.Generator().manual_seed(0)))
    return rgb


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOISE", 0.0)


def test_what_only_moves_is_not_unstable(no_noise: None) -> None:
    rgb = spot()
    seen = set()
    for seed in range(60):
        moved, shift = disturb(rgb, (0, seed))
        assert instability(rgb, moved, shift).tolist() == [0, 0], shift
        seen.add(shift)
    assert {part for shift in seen for part in shift} == set(range(-REACH, REACH + 1))  # no shift is left out


def test_a_shift_moves_down_and_right(no_noise: None) -> None:
    rgb = spot()
    moved, (down, right) = next(d for d in (disturb(rgb, (seed,)) for seed in range(99)) if min(d[1]) > 0)
    assert torch.equal(moved[..., down:, right:], rgb[..., :-down, :-right])


def test_every_other_shift_is_unstable(no_noise: None) -> None:
    rgb = spot()
    moved, shift = disturb(rgb, (3,))
    for other in itertools.product(range(-REACH, REACH + 1), repeat=2):
        if other != shift:
            assert instability(rgb, moved, other).min() > 1e-3, (shift, other)


def test_a_painter_that_knows_where_it_is_is_unstable(no_noise: None) -> None:
    """The grid that a network at a quarter of the size may leave stays where it is when the picture moves."""
    rgb = spot()
    grid = 0.1 * (torch.arange(32) % 4 == 0)
    moved, shift = next(d for d in (disturb(rgb, (seed,)) for seed in range(99)) if d[1][1] != 0)
    assert instability(rgb + grid, moved + grid, shift).min() > 1e-3


def test_noise_is_as_strong_as_it_says_and_stays_in_range() -> None:
    gray = torch.full((2, 3, 64, 64), 0.5)
    noisy, shift = disturb(gray, (1,))
    assert (noisy - gray).std().item() == pytest.approx(NOISE, rel=0.03)
    assert abs((noisy - gray).mean().item()) < NOISE / 20
    assert instability(gray, noisy, shift).tolist() == [pytest.approx(NOISE**2, rel=0.05)] * 2
    white, _ = disturb(torch.ones(1, 3, 16, 16), (1,))
    assert white.max() == 1


def test_the_seed_alone_decides() -> None:
    rgb = spot()
    first, again, other = disturb(rgb, (0, 5)), disturb(rgb, (0, 5)), disturb(rgb, (0, 6))
    assert first[1] == again[1] and torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0][0], first[0][1])  # each picture has noise of its own


def test_a_share_of_the_pictures_is_disturbed_as_in_the_whole_batch() -> None:
    """Processes that share a step's pictures see what one process would."""
    rgb = spot()
    whole, shift = disturb(rgb, (7,))
    share, same = disturb(rgb[1:], (7,), first=1)
    assert same == shift and torch.equal(share, whole[1:])


def test_the_gradient_reaches_both_pictures() -> None:
    painted, disturbed = spot().requires_grad_(), spot().mul(0.9).requires_grad_()
    instability(painted, disturbed, (1, -2)).sum().backward()
    assert painted.grad is not None and disturbed.grad is not None
    assert painted.grad.any() and disturbed.grad.any()
