"""Masks from files, and what a mask does to pictures and films."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from media import make_video, picture, read_rgb
from numpy.typing import NDArray

from vidstyle import BackendOptions, BadOption, EncodeOptions, Frame, FrameFormat, LookOptions, SmoothOptions, Stylizer
from vidstyle.cli import vidstyle
from vidstyle.errors import ImageError, VideoError
from vidstyle.films.film import render_parts
from vidstyle.gallery import style_names
from vidstyle.imaging.image_io import Still, write_still
from vidstyle.masks.files import PictureMask, VideoMask
from vidstyle.masks.mask import mask_notes
from vidstyle.rendering import render

FIRST, SECOND = style_names()[:2]
SIZE = (48, 64)
FORM = FrameFormat(height=SIZE[0], width=SIZE[1], pixels="i420")
LOSSLESS = EncodeOptions(codec="ffv1")
BACKEND = BackendOptions(threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``left.png`` is white on the left half; picture n of ``wipe.mkv``, 5 a second, is white in n columns of 8."""
    folder = tmp_path_factory.mktemp("masks")
    left = np.zeros((96, 128, 3), np.uint8)
    left[:, :64] = 255
    write_still(folder / "left.png", Still(left))
    with av.open(str(folder / "wipe.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=5)
        stream.height, stream.width = SIZE
        for number in range(6):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(_columns(number))))
        output.mux(stream.encode(None))
    make_video(folder / "film.mkv", size=SIZE, rate=10, frames=20)
    return folder


def _columns(number: int) -> NDArray[np.uint8]:
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[:, : 8 * number] = 255
    return rgb


def frame_at(seconds: Fraction, form: FrameFormat = FORM) -> Frame:
    planes = tuple(np.zeros(shape, np.uint8) for shape in form.plane_shapes)
    return Frame(planes, form, round(seconds * 1000), Fraction(1, 1000))


def test_a_picture_is_scaled_and_what_is_transparent_is_not_painted(tmp_path: Path) -> None:
    rgb = np.zeros((20, 40, 3), np.uint8)
    rgb[:, :20] = 255
    alpha = np.full((20, 40), 255, np.uint8)
    alpha[:10] = 0
    write_still(tmp_path / "mask.png", Still(rgb, alpha))
    mask = PictureMask(tmp_path / "mask.png", FORM).at(frame_at(Fraction(0)))
    assert mask.shape == SIZE and mask.dtype == np.uint8
    assert mask[40, 10] == 255 and mask[5, 10] == 0 and mask[40, 50] == 0


def test_a_video_runs_along_by_time(folder: Path) -> None:
    with VideoMask(folder / "wipe.mkv", FORM, Fraction(3)) as mask:

        def columns(seconds: float) -> int:
            return round(float((mask.at(frame_at(3 + Fraction(seconds))) > 128).mean()) * 8)

        assert [columns(n / 10) for n in range(13)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5], (
            "half its rate; it stays"
        )
        assert [columns(s) for s in (100, 0.5, 0, -1)] == [5, 2, 0, 0], "anywhere, as parts of a film ask"
        assert mask.at(frame_at(Fraction(4)))[0, 0] == 255, "all of the range"
    with VideoMask(folder / "wipe.mkv", FORM) as mask:  # live: from the first frame on, over and over
        found = [round(float((mask.at(frame_at(50 + Fraction(n, 5))) > 128).mean()) * 8) for n in range(14)]
    assert found == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1]


def test_what_a_mask_does_not_fit_is_said(folder: Path) -> None:
    assert mask_notes(str(folder / "left.png"), SIZE) == mask_notes("person", SIZE) == []
    assert "128x96" in mask_notes(str(folder / "left.png"), (64, 64))[0]
    rate, end = mask_notes(str(folder / "wipe.mkv"), SIZE, rate=Fraction(10), end=Fraction(2))
    assert "5 pictures a second, and the video 10" in rate and "ends after 1.2 s" in end


@pytest.mark.parametrize("smooth", [None, SmoothOptions()])
@pytest.mark.parametrize("work_size", [None, 24])
def test_outside_of_the_mask_is_the_source(folder: Path, work_size: int | None, smooth: SmoothOptions | None) -> None:
    rgb = picture((49, 65), 0)
    plain = LookOptions(strength=0.8, work_size=work_size)
    masked = LookOptions(strength=0.8, work_size=work_size, mask=str(folder / "left.png"))
    with Stylizer(FIRST, look=plain, backend=BACKEND, smooth=smooth) as stylizer:
        painted = [stylizer(rgb) for _ in range(2)]
        stylizer.look = masked
        stylizer.begin_scene()
        found = [stylizer(rgb) for _ in range(2)]
    for one, other in zip(found, painted, strict=True):
        assert np.abs(one[:, :31].astype(int) - other[:, :31]).max() <= 1 and np.array_equal(one[:, 34:], rgb[:, 34:])


def test_another_style_elsewhere(folder: Path) -> None:
    rgb, mask = picture(SIZE, 0), str(folder / "left.png")
    with Stylizer(FIRST, backend=BACKEND) as stylizer:
        first = stylizer(rgb)
        stylizer.style = SECOND
        second = stylizer(rgb)
    both = LookOptions(mask=mask, elsewhere=SECOND)
    with Stylizer(FIRST, look=both, backend=BACKEND, fixed=True, smooth=SmoothOptions()) as stylizer:
        for _ in range(2):
            found = stylizer(rgb)
            stylizer.begin_scene()
            assert np.array_equal(found[:, :31], first[:, :31]) and np.array_equal(found[:, 33:], second[:, 33:])
        with pytest.raises(BadOption, match="another network"):
            stylizer.look = LookOptions(mask=mask, elsewhere=next(n for n in style_names() if n.startswith("paper/")))
    with pytest.raises(BadOption, match="needs a mask"):
        LookOptions(elsewhere=SECOND)


def test_a_film_and_its_parts_are_the_same_under_a_video(folder: Path, tmp_path: Path) -> None:
    look = LookOptions(mask=str(folder / "wipe.mkv"), elsewhere=SECOND, strength=0.9)
    shared: dict[str, Any] = {"look": look, "encode": LOSSLESS, "backend": BACKEND}
    report = render(folder / "film.mkv", tmp_path / "whole.mkv", FIRST, **shared)
    assert any("wipe.mkv ends after 1.2 s" in note for note in report.notes)
    parts = render_parts(folder / "film.mkv", tmp_path / "parts.mkv", FIRST, part_seconds=0.7, **shared)
    assert parts.parts > 1 and [n for n in parts.notes if "wipe" in n] == [n for n in report.notes if "wipe" in n]
    whole, pieces = read_rgb(tmp_path / "whole.mkv"), read_rgb(tmp_path / "parts.mkv")
    assert len(whole) == 20 and all(np.array_equal(a, b) for a, b in zip(whole, pieces, strict=True))
    from vidstyle.options import ClipOptions

    clip = ClipOptions(start=1.0)
    render(folder / "film.mkv", tmp_path / "late.mkv", FIRST, clip=clip, **shared)
    late = read_rgb(tmp_path / "late.mkv")
    assert np.abs(late[0].astype(int) - whole[10]).max() <= 2, "the mask keeps to the clock of the film"


def test_a_plan_knows_its_mask(folder: Path, tmp_path: Path) -> None:
    from vidstyle.films.plan import facts_of
    from vidstyle.rendering import VideoPainter

    path = tmp_path / "mask.png"
    write_still(path, Still(picture(SIZE, 0)))
    look = LookOptions(mask=str(path), elsewhere=SECOND)
    with VideoPainter(FIRST, look=look) as painter:
        before = facts_of(painter, None, ".mkv")
        write_still(path, Still(picture((24, 64), 1)), overwrite=True)
        after = facts_of(painter, None, ".mkv")
    assert before["mask"] != after["mask"] and str(path) in after["mask"] and SECOND in after["elsewhere"]


@pytest.mark.parametrize(
    ("name", "said"), [("nothing.png", "no file that is here"), (".", "a folder"), ("", "name or a file")]
)
def test_a_mask_that_cannot_be_is_one_sentence(name: str, said: str, folder: Path, tmp_path: Path) -> None:
    words = ["render", str(folder / "film.mkv"), str(tmp_path / "out.mp4"), "--mask", name]
    result = CliRunner().invoke(vidstyle, words)
    assert result.exit_code == 2 and said in result.output and "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_a_mask_is_not_for_optimizing(folder: Path, tmp_path: Path) -> None:
    mask = str(folder / "left.png")
    words = ["image", mask, str(tmp_path / "out.png"), "--optimize", "-s", mask, "--mask", mask]
    result = CliRunner().invoke(vidstyle, words)
    assert result.exit_code == 2 and "--mask is not for --optimize" in result.output


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    for name, kind in (("mask.png", ImageError), ("mask.mp4", VideoError)):
        (tmp_path / name).write_text("no picture")
        with Stylizer(FIRST, look=LookOptions(mask=str(tmp_path / name)), backend=BACKEND) as stylizer:  # noqa: SIM117
            with pytest.raises(kind, match=name):
                stylizer(picture(SIZE, 0))


def test_the_command_line(folder: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.png", tmp_path / "out.png"
    rgb = picture(SIZE, 0)
    write_still(source, Still(rgb))
    words = ["image", str(source), str(output), "-s", FIRST, "--threads", "1", "--mask", str(folder / "left.png")]
    result = CliRunner().invoke(vidstyle, words)
    assert result.exit_code == 0, result.output
    painted = cv2.imread(str(output))[..., ::-1]
    assert np.array_equal(painted[:, 33:], rgb[:, 33:]) and not np.array_equal(painted[:, :31], rgb[:, :31])
    words = ["render", str(folder / "film.mkv"), str(tmp_path / "out.mkv"), "-s", FIRST, "--mask", "background"]
    result = CliRunner().invoke(vidstyle, [*words, "--threads", "1", "--end", "0.3", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["frames"] == 3
