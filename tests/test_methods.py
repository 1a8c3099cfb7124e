"""Each of the eight methods does what its paper is about; on tiny pictures, with seeded weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from likeness import RGB
from methods import weights
from methods.adain import AdaIN
from methods.avatar_net import AvatarNet, decorate, white
from methods.base import parameter_count
from methods.decoder import Block, Decoder, least_squares
from methods.gatys import Gatys
from methods.johnson import Johnson
from methods.meta_networks import MetaNetworks, full_size, start
from methods.metastyle import MetaStyle
from methods.rows import ROWS, Making
from methods.style_swap import Patches, StyleSwap, swap
from methods.tables import EVERY_STYLE, ORDER, claim_table, method_table
from methods.vgg import Encoder, adaptive_instance_norm, moments
from methods.wct import WCT, Covariance, transform
from torch import Tensor

from vidstyle.data import PHOTOS
from vidstyle.training.adapt import AdaptOptions
from vidstyle.training.data import Photos, painting_tensor, read_picture
from vidstyle.training.device import Compute

FP32 = Compute(device="cpu", arithmetic="fp32")
PAINTING, OTHER = PHOTOS / "flower.jpg", PHOTOS / "china.jpg"


@pytest.fixture(autouse=True)
def small_paintings(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("base", "gatys", "meta_networks"):
        monkeypatch.setattr(f"methods.{module}.STYLE_SIZE", 48)


@pytest.fixture(scope="module")
def photo() -> RGB:
    """Sides that are no multiples of 8."""
    return np.ascontiguousarray(read_picture(PHOTOS / "astronaut.jpg")[60:97, 200:242])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights nobody trained."""
    path = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    decoder = Decoder()
    weights.write(path / "decoder.safetensors", decoder.state_dict(), {"steps": 0})
    weights.write(path / "adain.safetensors", decoder.state_dict(), {"steps": 0})
    weights.write(path / "meta_networks.safetensors", start().state_dict(), {"steps": 0})
    return path


def features(seed: int, channels: int = 6, side: int = 16) -> Tensor:
    """Positive and correlated, as VGG's are."""
    random = torch.Generator().manual_seed(seed)
    mixed = torch.randn(channels, channels, generator=random) @ torch.randn(channels, side * side, generator=random)
    return torch.relu(mixed + torch.rand(channels, 1, generator=random)).reshape(1, channels, side, side)


def covariance(found: Tensor) -> Tensor:
    return torch.cov(found[0].flatten(1))


def test_wct_gives_features_the_mean_and_covariance_of_the_style() -> None:
    made, style = transform(features(0), Covariance(features(1))), features(1)
    torch.testing.assert_close(covariance(made), covariance(style), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(made.mean((2, 3)), style.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_a_share_of_wct_lies_between_content_and_style() -> None:
    content, style = features(0), Covariance(features(1))
    halfway = transform(content, style, 0.5)
    torch.testing.assert_close(halfway, (content + transform(content, style)) / 2, rtol=1e-3, atol=1e-3)


def test_adain_gives_features_the_means_and_deviations_of_the_style() -> None:
    made = moments(adaptive_instance_norm(features(0), moments(features(1))))
    for found, wanted in zip(made, moments(features(1)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_swapped_patches_come_from_the_style() -> None:
    style = features(1)
    patches = Patches(style)
    # The style itself is found again, patch for patch, and so is a content of its patches alone.
    torch.testing.assert_close(swap(style, patches), style, rtol=1e-4, atol=1e-4)
    made = swap(features(0, side=3), patches)  # one patch: nothing overlaps
    assert ((patches.patches - made).abs().amax((1, 2, 3)) < 1e-6).any()
    assert not torch.equal(made, features(0, side=3))


def test_avatar_net_swaps_between_white_features_and_colors_them_like_the_style() -> None:
    content, style = features(0), features(1)
    colors = Covariance(style)
    whitened = white(style, colors)
    torch.testing.assert_close(covariance(whitened), torch.eye(6), rtol=1e-3, atol=1e-3)
    made = decorate(content, Patches(whitened), colors)
    torch.testing.assert_close(covariance(made), covariance(style), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(made.mean((2, 3)), style.mean((2, 3)), rtol=1e-3, atol=1e-3)


def test_avatar_net_gives_every_level_the_moments_of_the_painting(
    folder: Path, photo: RGB, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = AvatarNet(FP32, folder / "decoder.safetensors")
    method.prepare(PAINTING)
    seen: dict[int, Tensor] = {}
    block = method.decoder.block

    def watched(number: int, given: Tensor) -> Tensor:
        seen[number] = given
        return block(number, given)

    monkeypatch.setattr(method.decoder, "block", watched)
    method.stylize(photo)
    for number in (3, 2, 1):
        for found, wanted in zip(moments(seen[number]), method.moments[number - 1], strict=True):
            # But for channels that a random block makes the same everywhere.
            assert ((found - wanted).abs() < 0.05).float().mean() > 0.95


def test_a_meta_network_makes_other_weights_for_another_painting(folder: Path, photo: RGB) -> None:
    method = MetaNetworks(FP32, folder / "meta_networks.safetensors")
    one, other = method.made(PAINTING), method.made(OTHER)
    for name, kernel in one.weights.items():
        assert not np.array_equal(kernel, other.weights[name]), name
    assert not np.array_equal(one.start, other.start)
    method.prepare(PAINTING)
    assert method.stylize(photo).shape == photo.shape


def test_the_loss_of_gatys_falls(photo: RGB) -> None:
    method = Gatys(FP32, iterations=6)
    method.prepare(PAINTING)
    reached = method.optimized(photo)
    assert reached.rgb.shape == photo.shape and reached.iterations == 6
    assert min(reached.curve) < 0.95 * reached.curve[0]


@pytest.mark.parametrize("name", ["wct", "adain", "avatar_net", "style_swap"])
def test_a_photo_of_any_size_is_painted_like_the_painting_that_was_prepared(
    name: str, folder: Path, photo: RGB
) -> None:
    method = ROWS[name](Making(compute=FP32, photos=Photos.shipped(), weights=folder))
    painted = []
    for painting in (PAINTING, OTHER):
        method.prepare(painting)
        painted.append(method.stylize(photo))
    assert painted[1].shape == photo.shape and painted[1].dtype == np.uint8
    assert not np.array_equal(painted[0], painted[1])


def test_metastyle_learns_a_painting_or_takes_the_gallerys_style(photo: RGB) -> None:
    options = AdaptOptions(steps=2, batch=1, size=32, style_size=48, measure_every=2, compute=FP32)
    method = MetaStyle("fast", options=options)
    method.prepare(PAINTING)
    curve = method.card["curve"]
    assert isinstance(curve, list) and curve[-1][2] < curve[0][2]  # its style term
    assert method.stylize(photo).shape == photo.shape
    known = MetaStyle("fast", gallery=True)
    known.prepare(Path("starry_night.jpg"))  # the gallery's, for which no file is read
    assert known.card["painter"]


def test_johnsons_network_is_the_one_of_its_painting() -> None:
    method = Johnson()
    method.prepare(Path("starry_night.jpg"))
    curve = method.card["curve"]
    assert isinstance(curve, list) and curve[-1][2] < 0.7 * curve[0][2]  # its style term
    assert f"{method.card['steps']:,} steps" in method.note()


def test_the_committed_decoders_invert_vgg() -> None:
    rgb = painting_tensor(read_picture(PHOTOS / "coffee.jpg"), 96)[..., :96, :96]
    levels = Encoder()(rgb)
    errors = []
    for depth in (1, 2, 3, 4):
        made = WCT(FP32).decoder(levels[depth - 1], depth)
        errors.append((made - rgb).square().mean().sqrt().item())
    assert errors == sorted(errors)  # the deeper, the less is left
    assert errors[0] < 0.05 and errors[-1] < 0.25


def test_a_block_is_fitted_to_what_is_linear() -> None:
    given = torch.randn(2, 5, 12, 12, generator=torch.Generator().manual_seed(0))
    kernel = torch.randn(4, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    wanted = torch.conv2d(torch.nn.functional.pad(given, (1,) * 4, mode="reflect"), kernel) + 2
    down, up, bias = least_squares(given, wanted, rank=4)
    torch.testing.assert_close((up @ down).reshape(kernel.shape), kernel, rtol=0.05, atol=0.02)
    torch.testing.assert_close(bias, torch.full((4,), 2.0), rtol=0.05, atol=0.05)
    block = Block(5, 3, 1)
    block.fit(given, torch.nn.functional.pixel_shuffle(wanted, 2).relu())
    assert block(given).shape == (2, 1, 24, 24)


def test_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    decoder = Decoder()
    weights.write(tmp_path / "w.safetensors", decoder.state_dict(), {"steps": 3})
    other = Decoder()
    assert weights.load_into(other, tmp_path / "w.safetensors") == {"steps": 3}
    for name, tensor in decoder.state_dict().items():
        assert (tensor - other.state_dict()[name]).abs().max() <= tensor.abs().max() / 200, name
    assert (tmp_path / "w.safetensors").stat().st_size < 1.1 * parameter_count(decoder)
    with pytest.raises(SystemExit, match="training"):
        weights.read(tmp_path / "none.safetensors")


def test_parameters_are_those_of_the_papers_table(folder: Path) -> None:
    making = Making(compute=FP32, photos=Photos.shipped(), weights=folder)
    for name in ("johnson", "wct", "adain", "meta_networks", "avatar_net", "metastyle_paper"):
        method = ROWS[name](making)
        full = method.full_size()
        assert method.table_parameters is not None
        near = 0.02 if name == "meta_networks" else 0.001
        assert full.get("vgg19", full.get("own")) == pytest.approx(1e6 * method.table_parameters, rel=near), name
    # Here the table stays unexplained: the mirror image of VGG up to relu3_1 is smaller.
    assert StyleSwap(FP32, folder / "decoder.safetensors").full_size()["vgg19"] == 1_110_403
    assert AdaIN(FP32, folder / "adain.safetensors").full_size()["vgg16"] < 7_000_000
    assert full_size().first.weight.device.type == "meta"  # a size, and no memory


def test_the_table_names_what_is_better_than_ours() -> None:
    row = {
        "paper": "somebody",
        "styles": "any",
        "real_time": False,
        "parameters": 1_000_000,
        "full_size": {"vgg19": 3_000_000, "vgg16": 2_000_000},
        "table_parameters": 3.0,
        "stored": 2_000_000,
        "style_seconds": 0.5,
        "seconds": {"256": 0.1, "512": 0.4},
        "content": 1.0,
        "style": [0.1, 0.2, 0.3, 0.4],
        "bands": [1.0] * 7,
        "palette": 5.0,
        "warping_error": {"pan": 0.004},
        "note": "",
    }
    ours = {**row, "real_time": True, "seconds": {"256": 0.01, "512": 0.02}, "style": [0.2] * 4, "style_seconds": 60.0}
    facts = {
        "machine": {"methods": {"cpu": {}, "painting": "p", "photos": ["a"], "rows": 384, "frames": 12}},
        "methods": {"wct": {"name": "WCT", **row}, "metastyle": {"name": "MetaStyle `fast`", **ours}},
    }
    told = "\n".join(claim_table(facts))
    assert "new style" in told and "WCT 0.5" in told and "seconds at 512" not in told
    assert "20 times as fast" in told and "WCT 20" in told and "Short" not in told
    assert method_table({}) == []
    assert set(EVERY_STYLE) < set(ORDER) and tuple(ROWS) == ORDER
