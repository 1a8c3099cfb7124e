"""What newcomers give to the functions of docs/api.md: a right result, or one sentence that says what to give."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import make_video, picture

import vidstyle
from vidstyle import (
    BackendOptions,
    BuildOptions,
    ClipOptions,
    EncodeOptions,
    Frame,
    FrameFormat,
    LookOptions,
    RenderReport,
    Stylizer,
    Timeline,
    VidstyleError,
    build_engine,
    render,
    stylize_stream,
)
from vidstyle.gallery import load_blend, load_style, shared_network, style_names
from vidstyle.imaging.image_io import Still, decode_still, encode_still, read_still, write_still
from vidstyle.models.style import Style, blend
from vidstyle.rendering import stylize_file, stylize_folder, stylize_still
from vidstyle.tools.contact_sheet import contact_sheet, picture_grid
from vidstyle.training.adapt import AdaptOptions, adapt
from vidstyle.training.data import Photos
from vidstyle.training.gatys import optimize

RGB = picture((24, 32), 0)
FORM = FrameFormat(height=24, width=32)
FRAME = Frame((RGB,), FORM, 0, Fraction(1, 25))
FIRST, SECOND = style_names()[:2]


def nothing(*_: object) -> None:
    pass


WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "a frame without a form": (lambda s: Frame((RGB,), None, 0, Fraction(1, 25)), "FrameFormat"),  # type: ignore[arg-type]
    "arrays for frames": (lambda s: stylize_stream(s, [RGB], nothing), "Frame"),  # type: ignore[list-item]
    "a frame for frames": (lambda s: stylize_stream(s, FRAME, nothing), "something that yields Frame"),  # type: ignore[arg-type]
    "no frames": (lambda s: stylize_stream(s, None, nothing), "NoneType"),  # type: ignore[arg-type]
    "no writer": (lambda s: stylize_stream(s, [FRAME], None), "function"),  # type: ignore[arg-type]
    "a style for a stylizer": (lambda s: stylize_stream(FIRST, [FRAME], nothing), "Stylizer"),  # type: ignore[arg-type]
    "no depth": (lambda s: stylize_stream(s, [FRAME], nothing, depth=0), "depth is 0"),
    "an array to open": (lambda s: s.open(RGB), "FrameFormat"),
    "an array to prepare": (lambda s: s.prepare(RGB), "Frame"),
    "a number for a style": (lambda s: setattr(s, "style", 5), "style is 5"),
    "a number for a look": (lambda s: setattr(s, "look", 5), "LookOptions"),
    "no painter": (lambda s: Stylizer(5), "style is 5"),  # type: ignore[arg-type]
    "a dictionary for a look": (lambda s: Stylizer(look={"strength": 1}), "LookOptions"),  # type: ignore[arg-type]
    "a backend's name": (lambda s: Stylizer(backend="onnxruntime"), "BackendOptions"),  # type: ignore[arg-type]
    "a number to smooth": (lambda s: Stylizer(smooth=0.7), "SmoothOptions"),  # type: ignore[arg-type]
    "strength in words": (lambda s: LookOptions(strength="1"), "strength is '1'"),  # type: ignore[arg-type]
    "half a row": (lambda s: LookOptions(work_size=99.5), "whole number"),  # type: ignore[arg-type]
    "threads in words": (lambda s: BackendOptions(threads="2"), "threads"),  # type: ignore[arg-type]
    "a float height": (lambda s: FrameFormat(height=4.0, width=4), "height is 4.0"),  # type: ignore[arg-type]
    "other pixels": (lambda s: FrameFormat(height=4, width=4, pixels="bgr"), "bgr"),  # type: ignore[arg-type]
    "a codec to encode": (lambda s: render("a.mp4", "b.mp4", encode="h264"), "EncodeOptions"),  # type: ignore[arg-type]
    "a number to load": (lambda s: load_style(5), "style is 5"),  # type: ignore[arg-type]
    "a list to load": (lambda s: load_blend([FIRST]), "a list"),  # type: ignore[arg-type]
    "a number for a file": (lambda s: Style.load(5), "is 5"),  # type: ignore[arg-type]
    "names to blend": (lambda s: blend([(FIRST, 0.5)]), "pairs"),  # type: ignore[list-item]
    "styles to blend": (lambda s: blend([load_style(FIRST)]), "pairs"),  # type: ignore[list-item]
    "a weight in words": (lambda s: blend([(load_style(FIRST), "1")]), "number"),  # type: ignore[list-item]
    "a timeline of a name": (lambda s: Timeline(FIRST), "pairs"),  # type: ignore[arg-type]
    "a timeline of numbers": (lambda s: Timeline([(0, 5)]), "style is 5"),  # type: ignore[list-item]
    "a number to render": (lambda s: render(5, "o.mp4"), "input is 5"),  # type: ignore[arg-type]
    "a progress bar": (lambda s: render("a.mp4", "o.mp4", on_progress=5), "function"),  # type: ignore[arg-type]
    "a height for a size": (lambda s: render(s.video, "o.mp4", size=720), "height, width"),
    "half a pixel": (lambda s: render(s.video, "o.mp4", size=(20.5, 30)), "whole number"),
    "a name to build": (lambda s: build_engine(FIRST, Path("o.engine")), "Style"),  # type: ignore[arg-type]
    "a height to build for": (lambda s: BuildOptions(size=720), "height, width"),  # type: ignore[arg-type]
    "a clock": (lambda s: ClipOptions(start="0:10"), "start is '0:10'"),  # type: ignore[arg-type]
    "a preset's number": (lambda s: EncodeOptions(preset=5), "preset is 5"),  # type: ignore[arg-type]
    "bytes to read": (lambda s: read_still(b"abc"), "a bytes"),  # type: ignore[arg-type]
    "no file": (lambda s: read_still("none.png"), "none.png"),
    "a name to decode": (lambda s: decode_still("a.png"), "bytes of a whole picture"),  # type: ignore[arg-type]
    "a still of a list": (lambda s: Still([[1]]), "uint8 RGB"),  # type: ignore[arg-type]
    "alpha of a list": (lambda s: Still(RGB, alpha=[[1]]), "alpha is int64"),  # type: ignore[arg-type]
    "an array to write": (lambda s: write_still("o.png", RGB), "Still"),  # type: ignore[arg-type]
    "an array to encode": (lambda s: encode_still(RGB, ".png"), "Still"),  # type: ignore[arg-type]
    "an array for a still": (lambda s: stylize_still(s, RGB), "Still"),  # type: ignore[arg-type]
    "no folder": (lambda s: stylize_folder(s, "no", "o"), "folder no"),
    "a float sheet": (lambda s: contact_sheet(RGB / 255), "photo is float64"),  # type: ignore[arg-type]
    "an empty sheet": (lambda s: contact_sheet(RGB[:0], [FIRST]), "height is 0"),
    "bare labels": (lambda s: picture_grid([RGB], ["a"]), "label is 'a'"),  # type: ignore[list-item]
    "an array to adapt to": (lambda s: adapt(RGB, shared_network("fast")), "a ndarray"),  # type: ignore[arg-type]
    "no painting": (lambda s: adapt("none.jpg", shared_network("fast")), "none.jpg"),
    "a dictionary": (lambda s: adapt("a.png", shared_network("fast"), options={}), "AdaptOptions"),  # type: ignore[arg-type]
    "steps in words": (lambda s: AdaptOptions(steps="3"), "steps is '3'"),  # type: ignore[arg-type]
    "a float photo": (lambda s: optimize(RGB / 255, "a.png"), "photo is float64"),  # type: ignore[arg-type]
    "optimize to nothing": (lambda s: optimize(RGB, "none.png"), "none.png"),
    "one photo": (lambda s: Photos(RGB), "photo is uint8 of shape"),  # type: ignore[arg-type]
    "float photos": (lambda s: Photos([RGB / 255]), "photo is float64"),
}


@pytest.fixture(scope="module")
def stylizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    stylizer = Stylizer(FIRST)
    stylizer.video = make_video(tmp_path_factory.mktemp("video") / "a.mp4", frames=2)  # type: ignore[attr-defined]
    return stylizer


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_one_sentence_that_says_what_does(
    case: str, stylizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    call, words = WRONG[case]
    with pytest.raises(VidstyleError) as raised:
        call(stylizer)
    assert words in str(raised.value) and "\n" not in str(raised.value) and len(str(raised.value)) < 400
    assert capfd.readouterr() == ("", "") and not any(tmp_path.iterdir())


def test_names_and_arrays_of_other_kinds_are_taken(
    stylizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read_only = np.frombuffer(RGB.tobytes(), np.uint8).reshape(RGB.shape)
    assert write_still("a.png", Still(read_only)) == ()
    assert stylize_file(stylizer, "a.png", "b.png").error is None
    data = Path("a.png").read_bytes()
    for kind in (data, bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(decode_still(kind).rgb, RGB)  # type: ignore[arg-type]
    np.testing.assert_array_equal(stylizer(RGB[:1, :1]).shape, (1, 1, 3))
    shown: list[Frame] = []
    stylize_stream(stylizer, [Frame([read_only], FORM, 0, Fraction(1, 25))], shown.append)  # type: ignore[arg-type]
    np.testing.assert_array_equal(shown[0].planes[0], stylizer(RGB))
    assert contact_sheet(read_only, FIRST, cell_width=32).dtype == np.uint8
    load_style(FIRST).save(Path("x.safetensors"))
    assert Style.load("x.safetensors").name == "x"


@pytest.mark.parametrize(
    "thing",
    [
        load_style(FIRST),
        shared_network("fast"),
        LookOptions(strength=0.5),
        FORM,
        FRAME,
        Timeline([(0, FIRST), (2, SECOND)]),
        Still(RGB),
        RenderReport("a", "b", "c", 1, 1),
        *[getattr(vidstyle, name)("a sentence") for name in vidstyle.__all__ if name.startswith("Bad")],
        vidstyle.VideoError("a sentence"),
        vidstyle.MissingDependency("a sentence"),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_data_can_be_copied_and_pickled(thing: object) -> None:
    for copied in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert type(copied) is type(thing)
        if isinstance(thing, Style):
            np.testing.assert_array_equal(copied.vector, thing.vector)
        elif isinstance(thing, Timeline):
            assert copied.at(1.5).name == thing.at(1.5).name
        else:
            assert str(copied)[:200] == str(thing)[:200]
