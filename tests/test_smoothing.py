"""Smoothing over time: what is calmed, what stays sharp, and what must leave no trace."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from flicker import RGB, gradient_energy, mean_warping_error, restlessness
from flicker_bench import Clip, FlickerOptions, ghost_of, made_clip, noisy_still
from media import make_video
from networks import LAYOUTS, planes_from_rgb, whole_style
from numpy.typing import NDArray

from vidstyle import EncodeOptions, Frame, FrameFormat, LookOptions, Stylizer, render
from vidstyle.cli import vidstyle
from vidstyle.cli.options import SmoothCommand, smooth_options
from vidstyle.frame import Pixels, Planes
from vidstyle.gallery import load_style, style_names
from vidstyle.imaging import resample
from vidstyle.imaging.smoothing import MAX_GAIN, MIN_GAIN, SMALLEST, Motion, Smoother, fitting_gain
from vidstyle.imaging.warp import SCALE, remembered
from vidstyle.models.style import blend
from vidstyle.options import BackendOptions, SmoothOptions
from vidstyle.video.reader import VideoReader

PIXELS: tuple[Pixels, ...] = ("rgb", "i420", "nv12")
WARM = 6
"""Frames in which smoothing sets in."""


@cache
def clip(name: str, frames: int = 20, rows: int = 128) -> Clip:
    return made_clip(name, FlickerOptions(frames=frames, rows=rows))


def grain(seed: int, size: tuple[int, int], levels: float = 12.0) -> NDArray[np.float32]:
    """Strokes of one frame, (height, width, 1): what the network paints differently each time."""
    noise = np.random.default_rng(seed).normal(0, 1, (*size, 1)).astype(np.float32)
    blobs = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.2)).reshape(noise.shape)
    return levels * blobs / max(float(blobs.std()), 1e-6)


def painted(source: RGB, seed: int = 0) -> RGB:
    """A painting of ``source``: other colors, and strokes that flicker."""
    strokes = grain(seed, source.shape[:2])
    return np.asarray(np.clip(0.7 * (255 - source[..., ::-1].astype(np.float32)) + 30 + strokes, 0, 255), np.uint8)


def paintings(frames: list[RGB]) -> list[RGB]:
    return [painted(frame, seed) for seed, frame in enumerate(frames)]


def planes_of(rgb: RGB, pixels: Pixels) -> Planes:
    return planes_from_rgb(rgb, form_of(rgb, pixels))


def form_of(rgb: RGB, pixels: Pixels = "rgb") -> FrameFormat:
    return FrameFormat(height=rgb.shape[0], width=rgb.shape[1], pixels=pixels)


def smoothed(sources: list[RGB], styled: list[RGB], strength: float = 0.7) -> list[RGB]:
    smoother = Smoother(form_of(sources[0]), SmoothOptions(strength=strength))
    return [smoother.step((a,), (b,))[0] for a, b in zip(sources, styled, strict=True)]


def away(a: RGB, b: RGB) -> float:
    """Mean difference in levels, strokes left out."""
    return float(cv2.absdiff(cv2.blur(a, (9, 9)), cv2.blur(b, (9, 9))).mean())


def sharpness(frames: list[RGB], plain: list[RGB]) -> float:
    return float(np.mean([gradient_energy(f) for f in frames]) / np.mean([gradient_energy(f) for f in plain]))


@pytest.mark.parametrize("name", ["pan", "zoom", "sprite"])
def test_flicker_falls_by_half_and_sharpness_stays(name: str) -> None:
    made = clip(name)
    plain = paintings(made.frames)
    calm = smoothed(made.frames, plain)
    assert mean_warping_error(calm, made.motions) < 0.5 * mean_warping_error(plain, made.motions)
    assert 0.95 < sharpness(calm[WARM:], plain[WARM:]) < 1.1


def test_more_strength_is_less_flicker() -> None:
    made = clip("pan")
    plain = paintings(made.frames)
    errors = [mean_warping_error(smoothed(made.frames, plain, s), made.motions) for s in (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(mean_warping_error(plain, made.motions), rel=0.02), "0 is nothing"


def test_a_still_scene_comes_to_rest() -> None:
    sources = noisy_still(FlickerOptions(frames=30, rows=128))
    plain = paintings(sources)
    calm = smoothed(sources, plain)
    assert restlessness(calm[15:]) < 0.3 * restlessness(plain[15:])
    assert 0.95 < sharpness(calm[WARM:], plain[WARM:]) < 1.1


def test_a_slow_pan_is_motion_not_rest() -> None:
    # 0.3 pixels a frame: were it taken for rest, the memory would stay some 20 frames behind.
    photo = clip("still").frames[0]
    moves = [np.array([[1, 0, 0.3 * i], [0, 1, 0]], np.float64) for i in range(30)]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    sources = [
        np.asarray(cv2.warpAffine(photo, move, photo.shape[1::-1], flags=flags), np.uint8)[:, :-10] for move in moves
    ]
    smoother = Smoother(form_of(sources[0]))
    motions = [smoother.estimate_motion((source,)) for source in sources]
    assert motions[-1] is not None
    flow, weight = motions[-1].flow, motions[-1].weight
    assert np.average(flow[..., 0], weights=weight) == pytest.approx(0.3, abs=0.06)


def test_light_that_moves_over_a_wall_does_not_take_the_strokes_along() -> None:
    wall = 130 + grain(1, (180, 320), 3.0)
    x = np.arange(320, dtype=np.float32)[None, :, None]
    shades = [1 - 0.3 * np.exp(-(((x - 80 - 3 * i) / 40) ** 2)) for i in range(24)]
    sources = [np.asarray(np.rint(np.repeat(wall * shade, 3, axis=2)), np.uint8) for shade in shades]
    smoother = Smoother(form_of(sources[0]))
    for source in sources:
        motion = smoother.estimate_motion((source,))
    assert motion is not None
    assert np.abs(motion.flow).mean() < 0.05  # the flow itself has 0.17: it follows the shade


@pytest.mark.parametrize("pixels", PIXELS)
def test_the_first_frame_and_that_after_a_cut_are_as_painted(pixels: Pixels) -> None:
    made = clip("cut", 12)
    cut = made.motions.index(None) + 1
    smoother = Smoother(form_of(made.frames[0], pixels))
    for index, rgb in enumerate(made.frames):
        source, styled = planes_of(rgb, pixels), planes_of(painted(rgb, index), pixels)
        shown = smoother.step(source, styled)
        same = all(np.array_equal(a, b) for a, b in zip(shown, styled, strict=True))
        assert same == (index in (0, cut)), index
    assert smoother.cuts == 1


@pytest.mark.parametrize("strength", [0.1, 0.7, 1.0])
@pytest.mark.parametrize("light", [0.1, 1.0])
def test_a_cut_is_seen_in_dark_scenes_too(light: float, strength: float) -> None:
    frames = [np.rint(frame * light).astype(np.uint8) for frame in clip("cut", 12).frames]
    smoother = Smoother(form_of(frames[0]), SmoothOptions(strength=strength))
    begun = [index for index, frame in enumerate(frames) if smoother.estimate_motion((frame,)) is None]
    assert begun == [0, 6]


def test_a_thing_that_moves_leaves_no_ghost() -> None:
    made = clip("sprite")
    plain = [painted(frame) for frame in made.frames]  # the same strokes each time: any difference is a ghost
    unmoved = [frame.copy() for frame in plain]
    for before, frame in pairwise(unmoved):  # what mixing without motion shows
        cv2.addWeighted(before, 0.8, frame, 0.2, 0, dst=frame)
    assert ghost_of(made, smoothed(made.frames, plain), plain) < 0.15 * ghost_of(made, unmoved, plain)


@pytest.mark.parametrize("frames", [1, 10, 40])
def test_a_fade_to_black_leaves_nothing_behind(frames: int) -> None:
    still = clip("still").frames[0]
    faded = [np.rint(still * max(0.0, 1 - i / frames)).astype(np.uint8) for i in range(frames + 6)]
    sources = [still] * 20 + faded
    # The network turns a picture of little contrast into a painting of full contrast, and black into something flat.
    plain = [painted(still) if source.any() else np.full_like(still, 60) for source in sources]
    calm = smoothed(sources, plain)
    black = 20 + frames
    assert away(calm[black + 3], plain[black + 3]) < 0.1 * away(plain[0], plain[-1])


def test_slow_light_is_followed() -> None:
    still = clip("still").frames[0]
    sources = [np.rint(still * (1 - 0.01 * i)).astype(np.uint8) for i in range(40)]
    plain = [painted(source) for source in sources]
    lags = [away(a, b) for a, b in zip(smoothed(sources, plain), plain, strict=True)]
    assert max(lags) < 4 * away(plain[20], plain[21])


@pytest.mark.parametrize("frames", [3, 12, 25])
def test_an_old_style_ends_with_a_fade_of_style(frames: int) -> None:
    still = clip("still").frames[0]
    old, new = load_style(style_names()[0]), whole_style("whole", 1)
    first, last = painted(still), painted(255 - still)
    smoother = Smoother(form_of(still))
    for index in range(20 + frames + 4):
        share = min(1.0, max(0.0, (index - 19) / frames))
        mixed = np.asarray(cv2.addWeighted(first, 1 - share, last, share, 0), np.uint8)
        shown = smoother.step((still,), (mixed,), blend([(old, 1 - share), (new, share)]).parts)[0]
        assert away(shown, mixed) < 0.1 * away(first, last), index
    assert away(shown, last) < 0.03 * away(first, last)


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (12, 12), (23, 300), (24, 24), (25, 47), (97, 33), (181, 533)])
def test_every_size_goes(pixels: Pixels, size: tuple[int, int]) -> None:
    photo = clip("still", rows=360).frames[0]
    sources = [np.asarray(cv2.resize(photo[i : i + 300], size[::-1], interpolation=cv2.INTER_AREA)) for i in range(5)]
    smoother = Smoother(FrameFormat(height=size[0], width=size[1], pixels=pixels))
    for index, rgb in enumerate(sources):
        source, styled = (planes_of(picture, pixels) for picture in (rgb, painted(rgb, index)))
        shown = smoother.step(source, styled)
        assert [p.shape for p in shown] == [p.shape for p in styled] and all(p.dtype == np.uint8 for p in shown)
        if min(size) < SMALLEST:
            assert shown is styled
        else:
            assert all(away(a, b) < 25 for a, b in zip(shown, styled, strict=True))
    assert smoother.cuts == 0


@pytest.mark.parametrize("pixels", PIXELS)
def test_padded_mirrored_and_read_only_planes_are_as_good(pixels: Pixels) -> None:
    def read_only(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        padded = LAYOUTS["padded rows"](plane)
        padded.flags.writeable = False
        return padded

    frames = clip("pan", rows=128).frames[:4]
    results = []
    for change in (np.ascontiguousarray, read_only, LAYOUTS["upside down"], LAYOUTS["mirrored"]):
        smoother = Smoother(form_of(frames[0], pixels))
        for index, rgb in enumerate(frames):
            source, styled = planes_of(rgb, pixels), planes_of(painted(rgb, index), pixels)
            shown = smoother.step(tuple(map(change, source)), tuple(map(change, styled)))
        results.append(shown)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_nothing_of_the_callers_is_changed_or_kept() -> None:
    frames = clip("pan").frames[:5]
    expected = smoothed(frames, paintings(frames))
    smoother = Smoother(form_of(frames[0]))
    source, styled = np.empty_like(frames[0]), np.empty_like(frames[0])  # used again for each frame
    for index, rgb in enumerate(frames):
        source[:], styled[:] = rgb, painted(rgb, index)
        shown = smoother.step((source,), (styled,))[0]
        assert np.array_equal(shown, expected[index])
        assert np.array_equal(source, rgb) and np.array_equal(styled, painted(rgb, index))
        source[:], styled[:] = 0, 255


def test_flat_and_black_pictures_go() -> None:
    for level in (0, 255, 90):
        source = np.full((48, 64, 3), level, np.uint8)
        for frame in smoothed([source] * 4, [source] * 4):
            assert np.array_equal(frame, source)


def test_after_a_reset_a_frame_is_as_painted() -> None:
    frames = clip("pan").frames[:4]
    smoother = Smoother(form_of(frames[0]))
    for frame in frames[:3]:
        smoother.step((frame,), (painted(frame),))
    smoother.reset()
    styled = painted(frames[3])
    assert smoother.step((frames[3],), (styled,))[0] is styled
    assert smoother.cuts == 0


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_the_gain_that_is_found_gives_back_the_energy(pixels: Pixels) -> None:
    still = clip("still").frames[0]
    new = planes_of(painted(still), pixels)[0]
    memory = remembered(np.asarray(cv2.GaussianBlur(new, (3, 3), 0.6), np.uint8))
    soft = memory / SCALE
    high = soft - cv2.blur(soft, (3, 3))

    def shown(gain: float) -> NDArray[np.uint8]:
        return np.clip(np.rint(soft + gain * high), 0, 255).astype(np.uint8)

    def energy(plane: NDArray[np.uint8]) -> float:
        green = (plane if plane.ndim == 2 else plane[..., 1]).astype(float)
        return float((np.diff(green, axis=0) ** 2).mean() + (np.diff(green, axis=1) ** 2).mean())

    found = fitting_gain(0.5, new, memory, shown(0.5))
    assert MIN_GAIN < found < MAX_GAIN
    assert energy(shown(found)) == pytest.approx(energy(new), rel=0.02)
    assert energy(shown(0)) < 0.6 * energy(new)


def test_the_gain_falls_where_nothing_is_missing() -> None:
    new = painted(clip("still").frames[0])
    assert fitting_gain(0.8, new, remembered(new), new) == 0.4
    flat = np.full_like(new, 9)
    assert fitting_gain(0.05, flat, remembered(flat), flat) == MIN_GAIN


def test_a_new_size_begins_anew() -> None:
    photo = clip("still").frames[0]
    with Stylizer(smooth=SmoothOptions()) as smooth, Stylizer() as plain:
        for picture in (photo, photo, photo[:96, :96], photo[:96, :96], photo):
            shown = smooth(np.ascontiguousarray(picture))
        assert np.abs(shown.astype(int) - plain(photo)).max() <= 1  # the network itself may round otherwise


def test_a_stylizer_cuts_with_its_style() -> None:
    photo = np.ascontiguousarray(clip("still").frames[0])
    first, second = style_names()[:2]
    with Stylizer(first, smooth=SmoothOptions()) as smooth, Stylizer(second) as plain:
        for _ in range(4):
            smooth(photo)
        smooth.style = second  # type: ignore[assignment]  # mypy takes the getter's type for the setter's
        assert np.array_equal(smooth(photo), plain(photo))


def test_the_strength_may_change_between_frames() -> None:
    sources = clip("pan").frames[:12]
    styled = paintings(sources)
    smoother = Smoother(form_of(sources[0]), SmoothOptions(strength=0.7))
    for number, (source, painting) in enumerate(zip(sources, styled, strict=True)):
        if number == 8:
            smoother.adjust(SmoothOptions(strength=1.0))
        changed = smoother.step((source,), (painting,))[0].copy()
    assert smoother.cuts == 0, "what was remembered stays"
    usual, most = smoothed(sources, styled, 0.7)[-1], smoothed(sources, styled, 1.0)[-1]
    assert away(changed, most) < away(usual, most)


def test_a_stylizer_may_be_smooth_for_a_while() -> None:
    frames = [planes_of(rgb, "i420") for rgb in clip("pan").frames[:5]]
    form, shown = form_of(clip("pan").frames[0], "i420"), []
    with Stylizer("starry_night") as stylizer:
        for number, planes in enumerate(frames):
            if number in (1, 4):
                stylizer.smooth = SmoothOptions() if number == 1 else None
            job = stylizer.prepare(Frame(planes, form, number, Fraction(1, 30)))
            bare = stylizer.submit(job)()
            bare = tuple(plane.copy() for plane in bare)
            shown.append(np.array_equal(stylizer.finish(job, bare).planes[0], bare[0]))
    assert shown == [True, True, False, False, True], "the first frame that is smoothed is as painted"


def test_looking_ahead_on_another_thread_changes_nothing() -> None:
    frames = [np.ascontiguousarray(frame) for frame in clip("cut", 12).frames]
    shown: dict[bool, list[RGB]] = {}
    for ahead in (False, True):
        with Stylizer(smooth=SmoothOptions(), backend=BackendOptions(threads=1)) as stylizer:
            jobs = [stylizer.prepare(Frame((f,), form_of(f), i, Fraction(1, 25))) for i, f in enumerate(frames)]
            with ThreadPoolExecutor(1) as pool:
                jobs = list(pool.map(stylizer.estimate_motion, jobs)) if ahead else jobs
            shown[ahead] = [stylizer.finish(job, stylizer.submit(job)()).planes[0] for job in jobs]
    assert all(np.array_equal(a, b) for a, b in zip(shown[False], shown[True], strict=True))


def test_what_is_smoothed_is_then_enlarged_and_mixed() -> None:
    frames = [np.ascontiguousarray(frame) for frame in clip("pan").frames[:4]]
    style, backend = "great_wave:0.6,the_scream:0.4", BackendOptions(precision="fp32", threads=1)
    form, look = form_of(frames[0]), LookOptions(strength=0.6, work_size=64)
    work = form.resized((64, 112))
    smoother = Smoother(work)
    with Stylizer(style, look=look, smooth=SmoothOptions(), backend=backend) as smooth:
        shown = [smooth(frame) for frame in frames]
    with Stylizer(style, backend=backend) as plain:
        for frame, found in zip(frames, shown, strict=True):
            small = resample.resize((frame,), form, work.size)
            calm = smoother.step(small, (plain(small[0]),))
            expected = resample.mix((frame,), resample.enlarge(calm, small, (frame,), work, form), 0.6)[0]
            assert cv2.absdiff(found, expected).mean() < 0.05
    assert smoother.cuts == 0


def frames_in(path: Path) -> list[NDArray[np.uint8]]:
    with VideoReader(path, pixels="rgb") as video:
        return [frame.planes[0].copy() for frame in video.frames()]


def test_render_smooths_on_request(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", size=(48, 64), frames=6)
    found = {}
    for name, words in (("plain", []), ("smooth", ["--smooth"])):
        path = tmp_path / f"{name}.mkv"
        done = CliRunner().invoke(vidstyle, ["render", *words, str(source), str(path), "--codec", "ffv1"])
        assert done.exit_code == 0, done.output
        found[name] = frames_in(path)
    render(source, tmp_path / "api.mkv", smooth=SmoothOptions(), encode=EncodeOptions(codec="ffv1"))
    assert all(map(np.array_equal, found["smooth"], frames_in(tmp_path / "api.mkv")))
    assert [np.array_equal(found["smooth"][i], found["plain"][i]) for i in (0, 3)] == [True, False]


def test_webcam_smooths_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, strengths = make_video(tmp_path / "in.mkv", size=(48, 64), frames=8), []
    estimate_motion = Smoother.estimate_motion

    def noted(smoother: Smoother, *arguments: Any) -> Motion | None:
        strengths.append(smoother.options.strength)
        return estimate_motion(smoother, *arguments)

    monkeypatch.setattr(Smoother, "estimate_motion", noted)
    words = ["webcam", "--source", source, "--smooth", "0.5", "--no-window", "--record", tmp_path / "out.mkv"]
    done = CliRunner().invoke(vidstyle, [str(word) for word in [*words, "--threads", 1]])
    assert done.exit_code == 0, done.output
    assert 1 <= len(strengths) <= 8 and set(strengths) == {0.5}
    assert len(frames_in(tmp_path / "out.mkv")) >= 1


@pytest.mark.parametrize(
    "words, strength",
    [
        (["--smooth", "in.mp4", "out.mp4"], 0.7),
        (["in.mp4", "--smooth", "out.mp4"], 0.7),
        (["in.mp4", "out.mp4", "--smooth"], 0.7),
        (["--smooth", "--", "in.mp4", "out.mp4"], 0.7),
        (["--smooth", "0.5", "in.mp4", "out.mp4"], 0.5),
        (["--smooth", ".5", "in.mp4", "out.mp4"], 0.5),
        (["--smooth=1", "in.mp4", "out.mp4"], 1.0),
        (["--smooth=0", "in.mp4", "out.mp4"], None),
        (["--", "in.mp4", "--smooth"], None),
        (["in.mp4", "out.mp4"], None),
    ],
)
def test_smooth_takes_no_file_name_for_its_strength(words: list[str], strength: float | None) -> None:
    @click.command(cls=SmoothCommand)
    @click.argument("source")
    @click.argument("output")
    @smooth_options
    def command(source: str, output: str, smooth: SmoothOptions | None) -> None:
        click.echo(f"{source} {output} {smooth and smooth.strength}")

    done = CliRunner().invoke(command, words)
    names = [word for word in words if word.endswith(".mp4") or (words[0] == "--" and word == "--smooth")]
    assert done.output.split() == [*names, str(strength)]


@pytest.mark.parametrize("words", [["--smooth=2"], ["--smooth", "-1"], ["--smooth=x"]])
def test_wrong_strengths_are_refused(words: list[str]) -> None:
    done = CliRunner().invoke(vidstyle, ["render", *words, "in.mp4", "out.mp4"])
    assert done.exit_code == 2
    assert "--smooth" in done.output
