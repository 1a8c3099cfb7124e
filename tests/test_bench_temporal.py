"""`vidstyle bench temporal`: the clips it makes, and what it reports of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from media import make_video

from vidstyle.bench_temporal import (
    MADE,
    MOVING,
    ProbeResult,
    TemporalOptions,
    TemporalReport,
    bench_temporal,
    clip_result,
    ghost_of,
    made_clip,
    noisy_still,
    read_clip,
    way_name,
)
from vidstyle.cli import vidstyle
from vidstyle.errors import BadOption, VideoError
from vidstyle.flicker import Motion, mean_warping_error, restlessness
from vidstyle.flicker_plot import flicker_plot
from vidstyle.gallery import load_style, style_names
from vidstyle.options import BackendOptions, SmoothOptions
from vidstyle.stylizer import Stylizer

SMALL = TemporalOptions(frames=12, rows=96, backend=BackendOptions(threads=1))


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


def test_an_unknown_clip_is_refused() -> None:
    with pytest.raises(BadOption, match="pan, zoom"):
        made_clip("spin", SMALL)


@pytest.mark.parametrize("size, expected", [((60, 100), (60, 100)), ((300, 200), (144, 96)), ((96, 170), (96, 168))])
def test_a_video_is_shrunk_by_its_shorter_side(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    clip = read_clip(make_video(tmp_path / "video.mp4", size=size, frames=14), SMALL)
    assert clip.name == "video"
    assert [frame.shape for frame in clip.frames] == [(*expected, 3)] * 12
    assert len(clip.motions) == 11


def test_a_video_that_is_too_short_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="has 5 frames; at least 8"):
        read_clip(make_video(tmp_path / "video.mp4", frames=5), SMALL)
    with pytest.raises(VideoError):
        read_clip(tmp_path / "none.mp4", SMALL)


@pytest.mark.parametrize("wrong", [{"frames": 7}, {"rows": 63}, {"rows": 5000}])
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadOption):
        TemporalOptions(**wrong)  # type: ignore[arg-type]


def test_the_unsmoothed_frames_are_their_own_measure() -> None:
    clip = made_clip("pan", SMALL)
    result = clip_result(clip, "a style", "none", clip.frames, clip.frames)
    assert (result.sharpness, result.similarity) == (1, pytest.approx(1, abs=1e-5))
    assert result.warping_error == mean_warping_error(clip.frames, clip.motions)


def test_ways_are_named_as_on_the_command_line() -> None:
    assert [way_name(way) for way in (None, SmoothOptions(), SmoothOptions(strength=1))] == ["none", "0.7", "1"]


@pytest.fixture(scope="module")
def report() -> TemporalReport:
    steps: list[str] = []
    done = bench_temporal(
        [load_style(style_names()[0])],
        TemporalOptions(frames=12, rows=96, smooth=(SmoothOptions(),), backend=BackendOptions(threads=1)),
        on_step=steps.append,
    )
    assert len(steps) == len(MOVING) + 1
    return done


def test_every_clip_is_measured_in_every_way(report: TemporalReport) -> None:
    ways = ["none", "0.7"]
    assert report.ways() == ways
    assert [(r.clip, r.smooth) for r in report.clips] == [(c, w) for c in MOVING for w in ("source", *ways)]
    assert all(math.isfinite(r.warping_error) and 0 < r.warping_error < 1 for r in report.clips)
    assert report.backend


def test_the_network_flickers_more_than_its_source_and_smoothing_helps(report: TemporalReport) -> None:
    none, both = report.summary("none"), report.summary("0.7")
    assert report.source_error() < none["warping_error"]
    assert both["warping_error_ratio"] < 0.6
    assert both["noise_gain_ratio"] < 0.4
    assert 0.9 < both["sharpness"] < 1.15
    assert 0.5 < both["similarity"] < 1
    assert none["warping_error_ratio"] == none["sharpness"] == none["noise_gain_ratio"] == none["half_still_ratio"] == 1


def test_nothing_of_the_old_scene_is_left_after_a_cut(report: TemporalReport) -> None:
    for way in report.ways():
        summary = report.summary(way)
        assert summary["cut"] == 0, way
        assert summary["ghost"] < 5, way


def test_a_ratio_is_taken_one_by_one() -> None:
    report = TemporalReport()
    for style, gains in (("a", (1.0, 0.5)), ("b", (4.0, 1.0))):
        for way, gain in zip(("none", "0.7"), gains, strict=True):
            report.probes.append(ProbeResult(style=style, smooth=way, gain=gain, half_still=gain, ghost=0, cut=gain))
    summary = report.summary("0.7")
    assert summary["noise_gain_ratio"] == pytest.approx((0.5 + 0.25) / 2)
    assert summary["noise_gain"] == 0.75
    assert summary["cut"] == 1.0, "the worst one"
    assert math.isnan(summary["warping_error"])


def test_frames_are_smoothed_as_a_stylizer_does_it(report: TemporalReport) -> None:
    clip = made_clip("pan", SMALL)
    results = {}
    for smooth in (None, SmoothOptions()):
        with Stylizer(style_names()[0], smooth=smooth, backend=SMALL.backend) as stylizer:
            results[smooth] = [stylizer(frame) for frame in clip.frames]
    own = clip_result(clip, "", "", results[SmoothOptions()], results[None])
    (measured,) = (r for r in report.clips if (r.clip, r.smooth) == ("pan", "0.7"))
    assert measured.warping_error == pytest.approx(own.warping_error, rel=0.02)
    assert measured.sharpness == pytest.approx(own.sharpness, rel=0.02)


def test_without_a_style_there_is_nothing_to_measure() -> None:
    with pytest.raises(BadOption, match="no style"):
        bench_temporal([], SMALL)


def test_the_table_has_a_row_for_each_way(tmp_path: Path) -> None:
    video = make_video(tmp_path / "mine.mp4", size=(64, 96), frames=10)
    words = ["bench", "temporal", "--clip", video, "-s", style_names()[0], "--frames", 8, "--size", 64]
    done = CliRunner().invoke(vidstyle, [str(word) for word in [*words, "--smooth", 0.3, "--threads", 1]])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert any(line.startswith(f"mine, pan, zoom, sprite; in {style_names()[0]}; on ") for line in lines)
    for way in ("source", "none", "0.3"):
        assert any(line.startswith(f"{way}  ") for line in lines), way


def test_json_holds_everything_and_the_plot_every_way(tmp_path: Path) -> None:
    plot = tmp_path / "flicker.svg"
    words = ["bench", "temporal", "-s", style_names()[0], "--frames", 8, "--size", 64, "--threads", 1, "--json"]
    done = CliRunner().invoke(vidstyle, [str(word) for word in (*words, "--plot", plot)])
    assert done.exit_code == 0, done.output
    picture = plot.read_text()
    assert "<!-- 0.7 -->" in picture
    facts = json.loads(done.stdout)
    assert len(facts["clips"]) == 3 * len(MOVING)
    assert list(facts["summary"]) == ["none", "0.7"]
    assert facts["source_error"] > 0


def test_a_plot_is_a_picture_file() -> None:
    summary = {
        "none": {"sharpness": 1.0, "warping_error_ratio": 1.0},
        "0.7": {"sharpness": 0.98, "warping_error_ratio": 0.4},
    }
    picture = cv2.imdecode(np.frombuffer(flicker_plot(summary, peer=summary, kind="png"), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (630, 960, 3) and picture.std() > 10
    assert flicker_plot(summary) == flicker_plot(summary) != flicker_plot(summary, peer=summary)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("plot.gif", "does not end in .svg or .png"),
        ("no/plot.svg", "no folder"),
        ("there.svg", "exists; "),
    ],
)
def test_a_plot_that_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, name: str, sentence: str
) -> None:
    (tmp_path / "there.svg").write_text("mine")
    done = CliRunner().invoke(vidstyle, ["bench", "temporal", "--plot", str(tmp_path / name)])
    assert done.exit_code in (1, 2) and sentence in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["there.svg"]
    assert (tmp_path / "there.svg").read_text() == "mine"


def test_bench_alone_times_and_with_temporal_does_not() -> None:
    help_text = CliRunner().invoke(vidstyle, ["bench", "--help"]).output
    assert "--rounds" in help_text and "temporal" in help_text
    assert "E_warp" not in help_text
    done = CliRunner().invoke(vidstyle, ["bench", "--size", "720", "temporal"])
    assert done.exit_code == 2
    assert "behind 'temporal'" in done.output


@pytest.mark.parametrize("words", [["--smooth", "0"], ["--smooth", "2"], ["--frames", "3"], ["--size", "10"]])
def test_wrong_words_are_refused(words: list[str]) -> None:
    assert CliRunner().invoke(vidstyle, ["bench", "temporal", *words]).exit_code == 2
