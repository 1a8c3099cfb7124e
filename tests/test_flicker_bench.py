"""benchmarks/flicker_bench.py: the clips it makes, and what it reports of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from flicker import Motion, mean_warping_error, restlessness
from flicker_bench import (
    MADE,
    MOVING,
    FlickerOptions,
    FlickerReport,
    ProbeResult,
    clip_result,
    ghost_of,
    made_clip,
    measure_styles,
    noisy_still,
    read_clip,
)
from media import make_video

from vidstyle.gallery import load_style, style_names
from vidstyle.options import BackendOptions

SMALL = FlickerOptions(frames=12, rows=96, backend=BackendOptions(threads=1))


@pytest.mark.parametrize("name", MADE)
def test_a_made_clip_has_its_frames_and_motions(name: str) -> None:
    clip = made_clip(name, SMALL)
    assert [frame.shape for frame in clip.frames] == [(96, 172, 3)] * 12
    assert all(frame.dtype == np.uint8 and frame.std() > 20 for frame in clip.frames)
    assert len(clip.motions) == 11
    assert [i for i, motion in enumerate(clip.motions) if motion is None] == ([5] if name == "cut" else [])


@pytest.mark.parametrize("name", MOVING)
def test_the_flow_of_a_made_clip_is_exact(name: str) -> None:
    # What is left of the error is what reading between pixels costs; any other flow has a larger one.
    clip = made_clip(name, SMALL)
    assert np.mean([motion.visible.mean() for motion in clip.motions if motion]) > 0.8

    def error(away: tuple[float, float]) -> float:
        moved = [motion and Motion(motion.forward + np.float32(away), motion.visible) for motion in clip.motions]
        return mean_warping_error(clip.frames, moved)

    for away in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
        assert error((0, 0)) < 0.8 * error(away), away


def test_a_sprite_uncovers_what_it_leaves() -> None:
    clip = made_clip("sprite", SMALL)
    assert not clip.uncovered[0].any()
    assert clip.uncovered[-1].mean() > 0.005
    ground = made_clip("still", SMALL).frames[0]
    assert np.array_equal(clip.frames[-1][clip.uncovered[-1]], ground[clip.uncovered[-1]])
    assert ghost_of(clip, clip.frames, clip.frames) == 0


def test_a_still_with_noise_has_that_noise() -> None:
    frames = noisy_still(SMALL)
    assert len(frames) == 24
    assert restlessness(frames) == pytest.approx(3, rel=0.1)
    assert all(np.array_equal(a, b) for a, b in zip(frames, noisy_still(SMALL), strict=True))


@pytest.mark.parametrize("size, expected", [((60, 100), (60, 100)), ((300, 200), (144, 96)), ((96, 170), (96, 168))])
def test_a_video_is_shrunk_by_its_shorter_side(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    clip = read_clip(make_video(tmp_path / "video.mp4", size=size, frames=14), SMALL)
    assert clip.name == "video"
    assert [frame.shape for frame in clip.frames] == [(*expected, 3)] * 12
    assert len(clip.motions) == 11


def test_a_video_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has 5 frames; at least 8"):
        read_clip(make_video(tmp_path / "video.mp4", frames=5), SMALL)


def test_the_unsmoothed_frames_are_their_own_measure() -> None:
    clip = made_clip("pan", SMALL)
    result = clip_result(clip, "a style", "none", clip.frames, clip.frames)
    assert (result.sharpness, result.similarity) == (1, pytest.approx(1, abs=1e-5))
    assert result.warping_error == mean_warping_error(clip.frames, clip.motions)


@pytest.fixture(scope="module")
def report() -> FlickerReport:
    return measure_styles([load_style(style_names()[0])], SMALL)


def test_every_clip_is_measured_in_every_way(report: FlickerReport) -> None:
    ways = ["none", "0.7"]
    assert report.ways() == ways
    assert [(r.clip, r.smooth) for r in report.clips] == [(c, w) for c in MOVING for w in ("source", *ways)]
    assert all(math.isfinite(r.warping_error) and 0 < r.warping_error < 1 for r in report.clips)
    assert report.backend


def test_the_network_flickers_more_than_its_source_and_smoothing_helps(report: FlickerReport) -> None:
    none, both = report.summary("none"), report.summary("0.7")
    assert report.source_error() < none["warping_error"]
    assert both["warping_error_ratio"] < 0.6
    assert both["noise_gain_ratio"] < 0.4
    assert 0.9 < both["sharpness"] < 1.15
    assert 0.5 < both["similarity"] < 1
    assert none["warping_error_ratio"] == none["sharpness"] == none["noise_gain_ratio"] == none["half_still_ratio"] == 1


def test_nothing_of_the_old_scene_is_left_after_a_cut(report: FlickerReport) -> None:
    for way in report.ways():
        summary = report.summary(way)
        assert summary["cut"] == 0, way
        assert summary["ghost"] < 5, way


def test_a_ratio_is_taken_one_by_one() -> None:
    report = FlickerReport()
    for style, gains in (("a", (1.0, 0.5)), ("b", (4.0, 1.0))):
        for way, gain in zip(("none", "0.7"), gains, strict=True):
            report.probes.append(ProbeResult(style=style, smooth=way, gain=gain, half_still=gain, ghost=0, cut=gain))
    summary = report.summary("0.7")
    assert summary["noise_gain_ratio"] == pytest.approx((0.5 + 0.25) / 2)
    assert summary["noise_gain"] == 0.75
    assert summary["cut"] == 1.0, "the worst one"
    assert math.isnan(summary["warping_error"])


def test_a_plot_has_a_point_for_every_strength(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plots = pytest.importorskip("plots", reason="needs matplotlib")
    summary = {
        "none": {"sharpness": 1.0, "warping_error_ratio": 1.0},
        "0.7": {"sharpness": 0.98, "warping_error_ratio": 0.4},
        "0.7 norms": {"sharpness": 0.9, "warping_error_ratio": 0.9},
    }
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "temporal.json").write_text(json.dumps({"temporal": {"flicker": {"summary": summary}}}))
    words = ["plots.py", "temporal", "--results", str(tmp_path), "--output", str(tmp_path / "plot.svg")]
    monkeypatch.setattr("sys.argv", words)
    plots.main()
    drawn = (tmp_path / "plot.svg").read_text()
    assert "<!-- 0.7 -->" in drawn and "norms" not in drawn
