"""Stills and folders through a real Stylizer on the shipped network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vidstyle.errors import BadOption, ImageError
from vidstyle.gallery import shared_network
from vidstyle.imaging.image_io import Still, read_still, write_still
from vidstyle.models.architecture import Network
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, LookOptions
from vidstyle.rendering import FileResult, stylize_file, stylize_folder, stylize_still
from vidstyle.stylizer import Stylizer


def stylizer(**look: object) -> Stylizer:
    network = shared_network("fast")
    vector = np.random.default_rng(3).normal(0.5, 0.4, network.architecture.style_size).astype(np.float32)
    style = Style.of("random", Network(network.architecture, network.weights, vector))
    return Stylizer(style, look=LookOptions(**look), backend=BackendOptions(threads=2))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def painter() -> Iterator[Stylizer]:
    with stylizer() as made:
        yield made


def picture(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3 % 256, y * 5 % 256, (x + y) * 2 % 256], -1).astype(np.uint8)


def test_alpha_profile_and_size_stay_while_the_colors_change(painter: Stylizer) -> None:
    alpha = np.arange(33 * 47, dtype=np.uint8).reshape(33, 47)
    still = Still(picture(33, 47), alpha, b"profile", "x", ("a note",))
    painted = stylize_still(painter, still)
    assert painted.size == (33, 47) and painted.alpha is alpha
    assert (painted.profile, painted.name, painted.notes) == (b"profile", "x", ("a note",))
    assert np.abs(painted.rgb.astype(int) - still.rgb).mean() > 3


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (17, 9)])
def test_the_smallest_pictures_are_painted(painter: Stylizer, size: tuple[int, int]) -> None:
    assert stylize_still(painter, Still(picture(*size))).size == size


def test_a_large_picture_is_painted_smaller_and_says_so(painter: Stylizer) -> None:
    still = Still(picture(728, 740))
    painted = stylize_still(painter, still)
    assert painted.size == still.size and "720 of 728 rows" in painted.notes[0]
    with stylizer(work_size=720) as named:
        assert np.array_equal(stylize_still(named, still).rgb, painted.rgb)


def test_the_look_is_honored() -> None:
    still = Still(picture())
    with stylizer(strength=0) as painter:
        assert np.array_equal(stylize_still(painter, still).rgb, still.rgb)
    with stylizer(work_size=16) as coarse, stylizer(preserve_color=True) as colored:
        assert stylize_still(coarse, still).size == still.size
        assert not np.array_equal(stylize_still(colored, still).rgb, stylize_still(coarse, still).rgb)


def test_a_file_is_painted_into_another(painter: Stylizer, tmp_path: Path) -> None:
    write_still(tmp_path / "in.png", Still(picture(), np.full((48, 64), 100, np.uint8)))
    result = stylize_file(painter, tmp_path / "in.png", tmp_path / "out.jpg")
    assert result.error is None and len(result.notes) == 1 and "transparency" in result.notes[0]
    assert read_still(tmp_path / "out.jpg").size == (48, 64)


def test_what_cannot_be_written_is_said_before_anything_is_read(painter: Stylizer, tmp_path: Path) -> None:
    write_still(tmp_path / "in.png", Still(picture()))
    with pytest.raises(BadOption, match="input itself"):
        stylize_file(painter, tmp_path / "in.png", tmp_path / "in.png", overwrite=True)
    with pytest.raises(BadOption, match="there is no folder"):
        stylize_file(painter, tmp_path / "not there either.png", tmp_path / "nowhere" / "out.png")


def make_folder(folder: Path) -> None:
    folder.mkdir()
    for name in ("b.png", "a.jpg", "C.WEBP"):
        write_still(folder / name, Still(picture()))
    (folder / "damaged.png").write_bytes((folder / "b.png").read_bytes()[:-30])
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._a.jpg").write_bytes(b"what macOS leaves beside a.jpg")
    (folder / "sub.png").mkdir()


def test_a_folder_is_painted_and_what_is_unreadable_is_told(painter: Stylizer, tmp_path: Path) -> None:
    make_folder(tmp_path / "in")
    seen: list[tuple[FileResult, int]] = []
    report = stylize_folder(
        painter, tmp_path / "in", tmp_path / "out", on_file=lambda result, total: seen.append((result, total))
    )
    assert [(Path(r.source).name, r.error is None) for r in report.files] == [
        ("C.WEBP", True), ("a.jpg", True), ("b.png", True), ("damaged.png", False), ("empty.jpg", False),
    ]  # fmt: skip
    assert [r for r, _ in seen] == report.files and {total for _, total in seen} == {5}
    assert [r.error for r in report.failed if r.error] == [
        f"{tmp_path / 'in' / 'damaged.png'} is cut short: it ends before its last part",
        f"{tmp_path / 'in' / 'empty.jpg'} is empty",
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["C.WEBP", "a.jpg", "b.png"]


def test_pictures_that_exist_are_kept_unless_told_otherwise(painter: Stylizer, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_still(tmp_path / "in" / "a.png", Still(picture()))
    write_still(tmp_path / "out" / "a.png", Still(picture(4, 4)))
    report = stylize_folder(painter, tmp_path / "in", tmp_path / "out")
    assert len(report.failed) == 1 and "exists" in str(report.failed[0].error)
    assert read_still(tmp_path / "out" / "a.png").size == (4, 4)
    assert not stylize_folder(painter, tmp_path / "in", tmp_path / "out", overwrite=True).failed
    assert read_still(tmp_path / "out" / "a.png").size == (48, 64)


def test_folders_that_cannot_be_worked_on_are_sentences(painter: Stylizer, tmp_path: Path) -> None:
    make_folder(tmp_path / "in")
    (tmp_path / "bare").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BadOption, match="both the folder read and the folder written"):
        stylize_folder(painter, tmp_path / "in", tmp_path / "bare" / ".." / "in")
    with pytest.raises(ImageError, match="holds no pictures; their names end in .png"):
        stylize_folder(painter, tmp_path / "bare", tmp_path / "out")
    with pytest.raises(ImageError, match="cannot read the folder .*: No such file"):
        stylize_folder(painter, tmp_path / "gone", tmp_path / "out")
    with pytest.raises(BadOption, match="cannot write to .*: No such file"):
        stylize_folder(painter, tmp_path / "in", tmp_path / "deep" / "er")
    with pytest.raises(BadOption, match="is a file; name a folder"):
        stylize_folder(painter, tmp_path / "in", tmp_path / "file")
    assert not (tmp_path / "out").exists()
