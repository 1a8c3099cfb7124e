"""An engine file as a style, from the file to the painted video: all of the way but the GPU itself.

The engines are real ones. Behind the runner are a device in host memory and ONNX Runtime (`hostdevice`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hostdevice import HostDevice, HostEngine
from media import make_video, picture, psnr, read_contents, read_rgb
from networks import photo, rgb_from_planes, whole_style

from engines import pretend_gpu
from vidstyle import BackendOptions, EncodeOptions, Frame, LookOptions, Stylizer, Timeline, render, stylize_stream
from vidstyle.cli import vidstyle
from vidstyle.engine.build import build_engine
from vidstyle.errors import EngineMismatch
from vidstyle.gallery import load_style
from vidstyle.graph import onnx_from_network
from vidstyle.models.architecture import ARCHITECTURES
from vidstyle.models.engine_file import EngineFile, card_path_of, write_engine
from vidstyle.models.style import blend
from vidstyle.options import BuildOptions, Pixels
from vidstyle.video.reader import VideoReader

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

ON_CPU = BackendOptions(backend="onnxruntime", precision="fp32")
LOSSLESS = EncodeOptions(codec="ffv1")
SIZE = (48, 64)


@dataclass
class Machine:
    """The GPU that is not there."""

    devices: list[HostDevice]
    loaded: list[tuple[EngineFile, bytes]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(pretend_gpu(monkeypatch), [])

    def load(engine: EngineFile, plan: bytes, library: Any, gpu: Any) -> HostEngine:
        found.loaded.append((engine, plan))
        card = engine.card
        graph = onnx_from_network(ARCHITECTURES[card.network], card.form(), dynamic=card.dynamic)
        return HostEngine(found.devices[-1], graph.SerializeToString())

    monkeypatch.setattr("vidstyle.backends.tensorrt.runtime.LoadedEngine", load)
    return found


def engine_of(folder: Path, *names: str, **options: Any) -> Path:
    styles = [load_style(name) for name in names or ("great_wave", "the_scream")]
    styles.append(whole_style("whole", 1))
    wishes = BuildOptions(**{"size": SIZE, "targets": ("ada",), "precision": "fp32", **options})
    return build_engine(styles, folder / "x.engine", wishes).engine.path


def clip(folder: Path, size: tuple[int, int] = SIZE, **more: Any) -> Path:
    pictures = [photo(name, size) for name in ("china", "coffee", "flower", "rocket")]
    return make_video(folder / "in.mp4", size=size, frames=4, pictures=pictures, options={"crf": "4"}, **more)


def painted(source: Path, output: Path, style: Any, **more: Any) -> list[np.ndarray]:
    render(source, output, style=style, **{"encode": LOSSLESS, **more})
    return read_rgb(output)


@pytest.mark.parametrize("pixels", ["i420", "nv12", "rgb"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_video_is_painted_as_by_the_style_itself(
    tmp_path: Path, machine: Machine, pixels: Pixels, dynamic: bool
) -> None:
    sizes = {"smallest": (16, 16), "largest": (64, 128)} if dynamic else {}
    engine = engine_of(tmp_path, pixels=pixels, **sizes)
    source = clip(tmp_path, (50, 70) if dynamic else SIZE)
    encode = EncodeOptions(codec="ffv1", pixel_format="yuv444p" if pixels == "rgb" else "yuv420p")
    found = painted(source, tmp_path / "engine.mkv", engine, encode=encode)
    expected = painted(source, tmp_path / "style.mkv", "great_wave", backend=ON_CPU, encode=encode)
    assert len(found) == 4
    assert min(map(psnr, found, expected)) > 45
    assert read_contents(tmp_path / "engine.mkv").pts == read_contents(source).pts
    ((file, plan),) = machine.loaded
    assert plan == file.read_plan() == engine.read_bytes()
    assert all(device.closed for device in machine.devices)


def test_every_style_of_an_engine_is_played_and_blended(tmp_path: Path, machine: Machine) -> None:
    engine, source = engine_of(tmp_path), clip(tmp_path)
    whole = whole_style("whole", 1)
    for number, (asked, same) in enumerate(
        (
            (f"{engine}#the_scream", "the_scream"),
            (f"{engine}#whole", whole),
            (f"{engine}#whole:0.5,{engine}#the_scream:0.5", blend([(whole, 1), (load_style("the_scream"), 1)])),
            (f"{engine}#great_wave:0.5,{engine}#the_scream:0.5", "great_wave:0.5,the_scream:0.5"),
            (
                Timeline([(0, load_style(engine)), (0.12, load_style(f"{engine}#the_scream"))]),
                Timeline([(0, load_style("great_wave")), (0.12, load_style("the_scream"))]),
            ),
        )
    ):
        found = painted(source, tmp_path / f"{number}-engine.mkv", asked)
        expected = painted(source, tmp_path / f"{number}-style.mkv", same, backend=ON_CPU)
        assert min(map(psnr, found, expected)) > 45


def test_a_larger_video_is_painted_at_the_size_of_the_engine(tmp_path: Path, machine: Machine) -> None:
    engine, source = engine_of(tmp_path), clip(tmp_path, (96, 128))
    with pytest.raises(EngineMismatch, match="takes frames of 64x48, and these are 128x96; .* `--work-size 48`"):
        painted(source, tmp_path / "out.mkv", engine)
    assert not (tmp_path / "out.mkv").exists()
    look = LookOptions(work_size=48)
    found = painted(source, tmp_path / "out.mkv", engine, look=look)
    expected = painted(source, tmp_path / "style.mkv", "great_wave", look=look, backend=ON_CPU)
    assert found[0].shape == (96, 128, 3)
    assert min(map(psnr, found, expected)) > 45


def test_colors_of_the_video_are_brought_to_those_of_the_engine(tmp_path: Path, machine: Machine) -> None:
    engine = engine_of(tmp_path, matrix="bt709", full_range=True)
    source = clip(tmp_path, color={"colorspace": 6, "color_range": 1})
    found = painted(source, tmp_path / "engine.mkv", engine)
    frames: list[Frame] = []
    with (
        VideoReader(source, matrix="bt709", full_range=True) as video,
        Stylizer("great_wave", backend=ON_CPU) as stylizer,
    ):
        stylize_stream(stylizer, video.frames(), frames.append)
    expected = [rgb_from_planes(frame.planes, frame.form) for frame in frames]
    assert min(map(psnr, found, expected)) > 32  # a player interpolates the chroma


def test_a_still_is_painted(tmp_path: Path, machine: Machine) -> None:
    rgb = picture(SIZE, 0, smooth=True)
    with Stylizer(engine_of(tmp_path, pixels="rgb")) as engine, Stylizer("great_wave", backend=ON_CPU) as style:
        assert psnr(engine(rgb), style(rgb)) > 50


@pytest.mark.parametrize("why", ["another size", "another version", "another GPU", "a damaged plan"])
def test_rebuild_mends_what_does_not_fit(tmp_path: Path, machine: Machine, why: str) -> None:
    path = engine_of(tmp_path, targets=("turing" if why == "another GPU" else "ada",))
    source = clip(tmp_path, (64, 96) if why == "another size" else SIZE)
    engine = EngineFile.open(path)
    if why == "another version":
        styles = engine.check_styles().read_bytes()
        write_engine(path, engine.read_plan(), replace(engine.card, library_version="1.0"), styles)
    elif why == "a damaged plan":
        path.write_bytes(b"damaged")
    before = path.read_bytes(), card_path_of(path).read_bytes()
    command = ["render", str(source), str(tmp_path / "out.mkv"), "--style", str(path), "--codec", "ffv1"]
    refused = CliRunner().invoke(vidstyle, command)
    assert refused.exit_code == 1
    assert "`--rebuild`" in " ".join(refused.stderr.split())
    assert (path.read_bytes(), card_path_of(path).read_bytes()) == before and not machine.loaded
    assert not (tmp_path / "out.mkv").exists()

    done = CliRunner().invoke(vidstyle, [*command, "--rebuild"])
    assert done.exit_code == 0, done.output
    ((_, plan),) = machine.loaded
    assert plan == path.read_bytes()
    assert (plan, card_path_of(path).read_bytes()) != before
    expected = painted(source, tmp_path / "style.mkv", "great_wave", backend=ON_CPU)
    assert min(map(psnr, read_rgb(tmp_path / "out.mkv"), expected)) > 45
    assert CliRunner().invoke(vidstyle, [*command, "--overwrite"]).exit_code == 0  # from now on it fits


def test_a_live_picture_is_painted_by_an_engine(tmp_path: Path, machine: Machine) -> None:
    engine, source = engine_of(tmp_path), clip(tmp_path)
    words = ["--source", str(source), "--style", str(engine), "--no-window", "--record", str(tmp_path / "out.mp4")]
    done = CliRunner().invoke(vidstyle, ["webcam", *words])
    assert done.exit_code == 0, done.output
    assert read_rgb(tmp_path / "out.mp4")
    assert len(machine.loaded) == 1 and machine.devices[-1].closed
    refused = CliRunner().invoke(vidstyle, ["webcam", *words[:-1], str(tmp_path / "x.mp4"), "--target-fps", "30"])
    assert refused.exit_code == 2
    assert "was built for 64x48 alone" in " ".join(refused.stderr.split())
