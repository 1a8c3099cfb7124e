"""The judge of pictures: that its measures give known values for made pictures."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
from artifacts import INNER, border, grid
from candidates import StyleCandidate, candidate, shipped_styles, write
from conftest import repository
from likeness import content_of, grams_of, palette_distance, psnr, terms
from looks import GAP, score, wilson
from numpy.typing import NDArray
from picture_tables import int8_table
from quality import main

from vidstyle.gallery import load_style
from vidstyle.training.contrast import BANDS, band_contrasts, luma
from vidstyle.training.data import read_picture
from vidstyle.training.device import Compute
from vidstyle.training.loss import Perceptual

RGB = NDArray[np.uint8]


def picture(seed: int = 0, size: tuple[int, int] = (128, 160)) -> RGB:
    """Blots of every size."""
    random = np.random.default_rng(seed)
    layers = [cv2.resize(random.normal(size=(2**k, 2**k, 3)), size[::-1]) for k in range(1, 8)]
    return np.clip(128 + 30 * sum(layers), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def perceptual() -> Iterator[Perceptual]:
    with Compute(threads=1).limits():
        yield Perceptual()


def test_a_picture_has_its_own_bands_palette_and_terms(perceptual: Perceptual) -> None:
    rgb = picture(size=(64, 80))
    assert band_contrasts(luma(rgb)) / band_contrasts(luma(rgb.copy())) == pytest.approx([1] * len(BANDS))
    assert palette_distance(rgb, rgb.copy()) == 0
    found = terms(rgb, content_of(rgb, perceptual), grams_of(rgb, perceptual), perceptual)
    assert (found.content, *found.style) == pytest.approx([0] * 5, abs=1e-9)


def test_a_blur_takes_the_fine_bands_and_half_the_contrast_takes_half_of_all() -> None:
    rgb = picture()
    y = luma(rgb)
    blurred = band_contrasts(luma(cv2.GaussianBlur(rgb, (0, 0), 3))) / band_contrasts(y)
    assert blurred[0] < 0.1 and blurred[1] < 0.4 and blurred[5] > 0.8
    assert (np.diff(blurred[:5]) > 0).all()
    assert band_contrasts(128 + (y - 128) / 2) / band_contrasts(y) == pytest.approx([0.5] * len(BANDS))


@pytest.mark.parametrize(("wavelength", "band"), [(4, 0), (8, 1), (16, 2), (32, 3), (64, 4)])
def test_a_wave_is_in_the_band_of_its_length(wavelength: int, band: int) -> None:
    # The band from 2 to 4 pixels holds dots of that size: waves are twice as long.
    y = np.tile(100 + 50 * np.sin(2 * np.pi * np.arange(384) / wavelength), (96, 1))
    assert int(np.argmax(band_contrasts(y)[:-1])) == band


def test_palettes_are_apart_by_the_mean_of_what_each_color_moves() -> None:
    gray, other = (np.full((20, 30, 3), level, np.uint8) for level in (100, 140))
    lab = [cv2.cvtColor(np.float32(p) / 255, cv2.COLOR_RGB2LAB)[0, 0] for p in (gray, other)]
    moved = float(np.linalg.norm(lab[1] - lab[0]))
    # In a random direction a step shows half its length, in the mean.
    assert palette_distance(gray, other) == pytest.approx(moved / 2, rel=0.1)
    assert palette_distance(gray, other[:10]) == pytest.approx(palette_distance(other, gray))


def test_the_terms_are_squared_errors_over_the_target(perceptual: Perceptual) -> None:
    rgb = picture(1, (32, 48))
    content, grams = content_of(rgb, perceptual), grams_of(rgb, perceptual)
    assert [len(gram) for gram in grams] == [64, 128, 256, 512]
    found = terms(rgb, 2 * content, [2 * gram for gram in grams], perceptual)
    assert (found.content, *found.style) == pytest.approx([1 / 4] * 5)
    found = terms(rgb, content / 2, [gram / 2 for gram in grams], perceptual)
    assert (found.content, *found.style) == pytest.approx([1] * 5)


def test_a_grid_and_a_border_are_seen() -> None:
    photos = [luma(picture(seed, (160, 192))) for seed in range(3)]
    pattern = np.tile(np.array([[6.0, -6], [-6, 6]]), (80, 96))
    clean, marked = (grid([y + p for y in photos], photos, 2) for p in (0 * pattern, pattern))
    assert clean < 3 < 50 < marked
    assert grid([y + np.kron(pattern[:80, :96], np.ones((2, 2))) for y in photos], photos, 4) > 4
    inner = [y[INNER].copy() for y in photos]
    assert border(photos, inner) == 0
    for y in inner:
        y[0], y[-1], y[:, 0], y[:, -1] = (edge + 9 for edge in (y[0], y[-1], y[:, 0], y[:, -1]))
    assert border(photos, inner) == pytest.approx(9, abs=0.5)


def test_an_interval_is_wilsons() -> None:
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


def folder_of_pictures(folder: Path, stems: tuple[str, ...], level: int) -> Path:
    for stem in stems:
        for photo in ("one", "two"):
            write(folder / stem / f"{photo}.png", np.full((24, 32, 3), level, np.uint8))
    return folder


@pytest.fixture
def paintings(tmp_path: Path) -> Path:
    for level, stem in enumerate(("fresco", "ink", "mosaic")):
        write(tmp_path / "paintings" / f"{stem}.jpg", np.full((32, 48, 3), 60 * level, np.uint8))
    return tmp_path / "paintings"


def test_pairs_are_shown_without_names_and_their_answers_counted(
    tmp_path: Path, paintings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stems = ("fresco", "ink", "mosaic")
    dark, light = (folder_of_pictures(tmp_path / str(level), stems, level) for level in (40, 220))
    quality("pairs", tmp_path, f"dark={dark}", f"light={light}", "--paintings", paintings, "--count", 4)
    key = json.loads((tmp_path / "key.json").read_text())["pairs"]
    shown = sorted((tmp_path / "pairs").glob("*.jpg"))
    assert [path.stem for path in shown] == list(key) == ["001", "002", "003", "004"]
    assert {found["painting"] for found in key.values()} == set(stems), "all paintings before one of them again"
    assert sorted(found["1"] for found in key.values()) == ["dark", "dark", "light", "light"]
    for path in shown:
        picture = read_picture(path)
        levels = {"1": picture[12, -32 - GAP - 16].mean(), "2": picture[12, -16].mean()}
        assert {place: "dark" if level < 128 else "light" for place, level in levels.items()} == {
            place: key[path.stem][place] for place in "12"
        }
    answers = {number: {"manner": 1 if found["1"] == "dark" else 2, "hang": 1} for number, found in key.items()}
    answers["004"]["hang"] = None
    (tmp_path / "answers.json").write_text(json.dumps({"pairs": answers}))
    quality("score", tmp_path, tmp_path / "answers.json")
    told = json.loads((tmp_path / "score.json").read_text())["looks"]["pairs"]["dark : light"]
    assert (told["manner"]["wins"], told["manner"]["of"], told["hang"]["of"]) == (4, 4, 3)
    assert told["manner"]["interval"] == pytest.approx(wilson(4, 4), rel=1e-4)
    assert "| dark : light | 4 : 0 (51-100 %) |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="there already"):
        quality("pairs", tmp_path, f"dark={dark}", f"light={light}", "--paintings", paintings)


def test_thumbnails_are_gray_and_matched(tmp_path: Path, paintings: Path) -> None:
    folder = folder_of_pictures(tmp_path / "painted", ("fresco", "mosaic"), 90)
    quality("thumbnails", tmp_path, folder, "--paintings", paintings, "--count", 1)
    key = json.loads((tmp_path / "key.json").read_text())["thumbnails"]
    assert sorted(key) == ["1", "2"] and sorted(key.values()) == ["A", "B"]
    assert {path.name for path in (tmp_path / "thumbnails").iterdir()} == {"gray.jpg", "paintings.jpg", "task.txt"}
    assert score({"thumbnails": key}, {"thumbnails": {"1": key["1"], "2": "Z"}}) == {
        "thumbnails": {"right": 1, "of": 2}
    }


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"pairs": {"009": {"manner": 1}}}, "009.*001"),
        ({"pairs": {"001": {"manner": 3}}}, "manner.*3.*1, 2 or null"),
        ({"looks": {}}, "looks.*pairs"),
    ],
)
def test_an_answer_to_nothing_is_refused(answers: dict[str, Any], words: str) -> None:
    with pytest.raises(SystemExit, match=words):
        score({"pairs": {"001": {"1": "a", "2": "b"}}}, answers)


def test_a_style_stands_for_the_painting_that_its_name_begins() -> None:
    style = load_style("great_wave")
    found = StyleCandidate("ours", {"wave": style, "wave_ii": style})
    assert found._style(Path("wave_ii_print.jpg")) is style and found.knows(Path("wave.png"))
    assert not found.knows(Path("waves.jpg")) and not found.knows(Path("great_wave.jpg"))
    assert all(style.network_name == "paper" for style in shipped_styles("paper").values())
    with pytest.raises(SystemExit, match="nothing for any of the paintings"):
        candidate(f"ours={repository() / 'vidstyle' / 'gallery' / 'fast'}", [Path("nobodys.jpg")])


def test_candidates_are_judged_beside_the_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stem, rows = "great_wave_print", 160
    for number in (1, 2):
        write(tmp_path / "photos" / f"photo{number}.png", picture(number, (rows, 192)))
    write(tmp_path / "paintings" / f"{stem}.png", picture(1, (rows, 192)))
    copies = tmp_path / "copies" / stem
    shutil.copytree(tmp_path / "photos", copies)
    words = ["judge", tmp_path / "out", "--paintings", tmp_path / "paintings", "--photos", tmp_path / "photos"]
    words += ["--rows", rows, "--style-size", rows, "--threads", 1, "--arithmetic", "fp32"]
    quality(
        *words, "--candidate", f"copy={tmp_path / 'copies'}", "--peer", sys.executable, "--as-video", "fp32", "int8"
    )
    facts = json.loads((tmp_path / "out" / "quality.json").read_text())
    still, exact, whole = (
        read_picture(tmp_path / "out" / "pictures" / name / stem / "photo2.png")
        for name in ("shipped", "shipped fp32", "shipped int8")
    )
    assert psnr(still, exact) > 25 and 35 < psnr(exact, whole) < 70
    assert facts["quality"]["shipped int8"][stem]["border"] > 0
    assert "| int8 and" in "\n".join(int8_table(facts))
    found, shipped = (facts["quality"][name][stem] for name in ("copy", "shipped"))
    assert found["content"] == 0 and found["photos"] == 2
    assert all(style >= 0 for style in found["style"]) and found["palette"] < shipped["palette"]
    assert shipped["border"] > 0 and "border" not in found
    assert facts["machine"]["quality"]["cpu"]["usable_cores"] >= 1
    out = capsys.readouterr().out
    assert "the peer is left out" in out and f"| {stem}, copy |" in (tmp_path / "out" / "quality.md").read_text()
    for path in ("sheet.jpg", f"sheets/{stem}.jpg", f"pictures/shipped/{stem}/photo2.png"):
        assert (tmp_path / "out" / path).stat().st_size > 1000
    with pytest.raises(SystemExit, match="judged otherwise"):
        quality(*words, "--candidate", f"copy={tmp_path / 'copies'}", "--count", 1)


def quality(*words: object) -> None:
    """The script, in this process."""
    with mock.patch.object(sys, "argv", ["quality.py", *map(str, words)]):
        main()
