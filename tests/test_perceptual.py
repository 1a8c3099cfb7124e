"""The perceptual loss: which layers, which scale, where the gradient goes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from vidstyle.data import VGG_FILE
from vidstyle.errors import BadModel, BadOption, MissingDependency
from vidstyle.training import perceptual as module
from vidstyle.training.perceptual import (
    BLOCKS,
    MEAN_RGB,
    LossWeights,
    Perceptual,
    from_torchvision,
    gram,
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


def test_gram_is_the_mean_product_of_channels() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 5.0]]]])  # two channels, two positions
    assert gram(features).tolist() == [[[2.5, 6.5], [6.5, 17.0]]]


def test_a_picture_has_no_distance_from_itself(vgg: Perceptual) -> None:
    rgb = picture(2)
    losses = vgg.losses(rgb, vgg.content_target(rgb), vgg.style_target(rgb))
    assert losses.content.item() == pytest.approx(0, abs=1e-6)
    assert losses.style.item() == pytest.approx(0, abs=1e-6)


def test_terms_do_not_depend_on_the_scale_of_their_target(vgg: Perceptual) -> None:
    """Nothing at all is 1 from every content and 2 from every style; much too much of a style is no farther."""
    content, style = vgg.content_target(picture(3)).features, vgg.style_target(picture(4))[:-1]
    nothing = torch.zeros(1)
    assert module._relative_error(nothing.expand_as(content), content * 1000).item() == pytest.approx(1)
    for layer in style:
        assert module._style_error(nothing.expand_as(layer), layer / 1000).item() == pytest.approx(2)
        assert module._style_error(layer * 1e4, layer).item() == pytest.approx(2, rel=1e-3)
        assert module._style_error(layer * 1.01, layer).item() == pytest.approx(1e-4, rel=0.02)


def test_statistics_are_the_covariance_and_the_mean_of_channels() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 5.0]]]])  # two channels, two positions
    assert statistics(features).tolist() == [[[0.25, 0.5], [0.5, 1.0], [1.5, 4.0]]]


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


def test_weights_are_checked_and_make_the_total(vgg: Perceptual) -> None:
    with pytest.raises(BadOption, match="style weight is nan"):
        LossWeights(style=float("nan"))
    losses = vgg.losses(picture(5, 2), vgg.content_target(picture(6, 2)), vgg.style_target(picture(7)))
    total = losses.total(LossWeights(content=1, style=2, variation=3, tone=4))
    assert total.shape == (2,)
    expected = losses.content + 2 * losses.style + 3 * losses.variation + 4 * losses.tone
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
    """In float64: features, Gram matrices, the gradient of a loss of both, and the gradient of its length."""
    exact, rgb = Perceptual(torch.float64), picture(14, 2, 16, 24).double().requires_grad_()

    def plain_gram(f: torch.Tensor) -> torch.Tensor:
        return f.flatten(2) @ f.flatten(2).transpose(1, 2) / f[0, 0].numel()

    def derivatives(features: Callable[..., list[torch.Tensor]], product: Callable[..., torch.Tensor]) -> list[Any]:
        found = features(rgb)
        loss = sum((product(f) * 1e-4).square().mean() + (f * 1e-2).pow(3).mean() for f in found)
        (first,) = torch.autograd.grad(loss, rgb, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), rgb)
        return [*found, first, second]

    for ours, theirs in zip(derivatives(exact.features, gram), derivatives(plain_features, plain_gram), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradients_keep_the_memory_order_of_the_features(vgg: Perceptual) -> None:
    features = [f.detach().requires_grad_() for f in vgg.features(picture(15))]
    gradients = torch.autograd.grad(sum(gram(f).square().sum() for f in features), features)
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
    with pytest.raises(MissingDependency, match=f"cannot be had: {broken}; install .*--perceptual shipped"):
        Perceptual(features="torchvision")


def test_the_real_torchvision_has_the_shipped_network_s_positions() -> None:
    try:
        from torchvision.models import vgg16
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    shapes = {name: tensor.shape for name, tensor in from_torchvision(vgg16().features.state_dict()).items()}
    assert shapes == {name: tensor.shape for name, tensor in module._vgg_tensors().items()}
