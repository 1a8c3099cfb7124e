"""The graph for other programs, run by ONNX Runtime and OpenCV, against torch; and the command."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from conftest import repository
from networks import seeded_network
from numpy.typing import NDArray

from vidstyle.cli import vidstyle
from vidstyle.data import PHOTOS
from vidstyle.gallery import load_style
from vidstyle.graph.export import float_onnx_from_network
from vidstyle.models.architecture import FAST, PAPER, Architecture, Network
from vidstyle.models.torch_net import TransformNet

Floats = NDArray[np.float32]
LEVEL = 1 / 255


def picture(height: int, width: int) -> Floats:
    small = np.random.default_rng(height).random((height // 4 + 1, width // 4 + 1, 3), np.float32)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def painted(model: onnx.ModelProto | Path, image: Floats) -> Floats:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    (result,) = session.run(["painted"], {"image": image})
    return np.asarray(result)


def expected(network: Network, image: Floats) -> Floats:
    rows, columns = image.shape[2:]
    height, width = network.architecture.padded_size((rows, columns))
    whole = np.pad(image, ((0, 0), (0, 0), (0, height - rows), (0, width - columns)), mode="edge")
    with torch.no_grad():
        result = TransformNet.from_network(network)(torch.from_numpy(whole), torch.from_numpy(network.start))
    return np.asarray(result[..., :rows, :columns].numpy())


@pytest.mark.parametrize("shape", [FAST, PAPER], ids=lambda shape: str(shape.name))
@pytest.mark.parametrize("dynamic", [True, False])
def test_the_graph_paints_as_the_network_does(shape: Architecture, dynamic: bool) -> None:
    network = seeded_network(shape)
    model = None if not dynamic else float_onnx_from_network(network)
    for size in ((64, 96), (23, 37), (8, 8)):
        image = picture(*size)
        result = painted(model or float_onnx_from_network(network, size), image)
        assert result.dtype == np.float32 and result.shape == image.shape
        assert result.min() >= 0 and result.max() <= 1
        assert np.abs(result - expected(network, image)).max() < LEVEL


def test_opencv_runs_the_graph_of_one_size() -> None:
    network, image = load_style("udnie").network, picture(48, 64)
    net = cv2.dnn.readNetFromONNX(
        np.frombuffer(float_onnx_from_network(network, (48, 64)).SerializeToString(), np.uint8)
    )
    net.setInput(image)
    assert np.abs(net.forward() - expected(network, image)).max() < LEVEL


def test_the_command_writes_what_onnx_accepts_and_never_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "starry.onnx"
    words = ["export", "starry_night", "-o", str(path)]
    done = CliRunner().invoke(vidstyle, words)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{path}: vidstyle-fast, every size from 8x8 on, opset 18\n"
    onnx.checker.check_model(str(path), full_check=True)
    image = picture(40, 56)
    assert np.abs(painted(path, image) - expected(load_style("starry_night").network, image)).max() < LEVEL
    kept = path.read_bytes()
    assert CliRunner().invoke(vidstyle, words).exit_code == 2 and path.read_bytes() == kept
    assert CliRunner().invoke(vidstyle, [*words, "--overwrite", "--size", "64x48"]).exit_code == 0
    assert list(onnx.load(path).graph.input[0].type.tensor_type.shape.dim)[2].dim_value == 48
    both = CliRunner().invoke(vidstyle, [*words, "--size", "64x48", "--dynamic"])
    assert both.exit_code == 2 and "choose" in both.stderr


def test_the_recipes_of_the_page_paint_a_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo = cv2.imread(str(PHOTOS / "coffee.jpg"))
    cv2.imwrite("photo.jpg", cv2.resize(photo, (320, 180), interpolation=cv2.INTER_AREA))
    for words in (["-o", "starry.onnx"], ["-o", "starry720.onnx", "--size", "1280x720"]):
        assert CliRunner().invoke(vidstyle, ["export", "starry_night", *words]).exit_code == 0
    page = (repository() / "docs" / "export.md").read_text()
    recipes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(recipes) == 2
    for recipe, shape in zip(recipes, ((180, 320, 3), (720, 1280, 3)), strict=True):
        exec(compile(recipe, "docs/export.md", "exec"), {})
        result = cv2.imread("painted.png")
        assert result.shape == shape
        blue, _, red = result.reshape(-1, 3).mean(0)
        assert blue > red + 5, "The Starry Night is blue, and a cup of coffee is not"
        Path("painted.png").unlink()
