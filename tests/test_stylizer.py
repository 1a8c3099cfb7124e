"""The public face: arrays, frames, and whole videos."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from media import Audio, make_video, picture, read_rgb
from networks import psnr, whole_style

from vidstyle import (
    BackendOptions,
    BadOption,
    ClipOptions,
    EncodeOptions,
    Frame,
    FrameFormat,
    LookOptions,
    Progress,
    RenderReport,
    SmoothOptions,
    Stylizer,
    Timeline,
    VideoError,
    VidstyleError,
    render,
    stylize_stream,
)
from vidstyle.gallery import load_style, style_names
from vidstyle.models.style import blend
from vidstyle.options import MAX_SIDE, BackendName, Pixels
from vidstyle.stylizer import work_size, work_size_note

FIRST, SECOND, THIRD = style_names()[:3]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
LOSSLESS = EncodeOptions(codec="ffv1")


def frames(count: int, form: FrameFormat | None = None) -> Iterator[Frame]:
    form = form or FrameFormat(height=48, width=64, pixels="rgb")
    for index in range(count):
        yield Frame((picture(form.size, index),), form, index * 3, Fraction(1, 90))


def decoded(path: Path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(str(path)) as file:
        shown = list(file.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for frame in shown], [float(frame.time) for frame in shown]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_a_picture_is_painted_at_its_own_size() -> None:
    rgb = picture((61, 83), 0)
    with Stylizer(FIRST) as stylizer:
        painted = stylizer(rgb)
    assert painted.shape == rgb.shape
    assert painted.dtype == np.uint8
    assert difference(painted, rgb) > 10
    assert painted.std() > 10


def test_styles_differ_and_a_blend_lies_between() -> None:
    rgb = picture((96, 128), 0)
    with Stylizer(FIRST) as stylizer:
        a = stylizer(rgb)
        stylizer.style = load_style(SECOND)
        b = stylizer(rgb)
        stylizer.style = blend([(load_style(FIRST), 0.5), (load_style(SECOND), 0.5)])
        half = stylizer(rgb)
    assert difference(a, b) > 5
    assert 0 < difference(half, a) < difference(a, b)
    assert 0 < difference(half, b) < difference(a, b)


def test_strength_mixes_with_the_source() -> None:
    rgb = picture((64, 64), 0)
    distances = []
    for strength in (0.0, 0.5, 1.0):
        with Stylizer(FIRST, look=LookOptions(strength=strength)) as stylizer:
            distances.append(difference(stylizer(rgb), rgb))
    assert distances[0] == 0
    assert distances[1] == pytest.approx(distances[2] / 2, rel=0.1)


def test_preserve_color_keeps_the_chroma() -> None:
    form = FrameFormat(height=48, width=64, pixels="i420")
    planes = tuple(np.random.default_rng(1).integers(60, 190, shape, dtype=np.uint8) for shape in form.plane_shapes)
    with Stylizer(FIRST, look=LookOptions(preserve_color=True)) as stylizer:
        job = stylizer.prepare(Frame(planes, form, 0, Fraction(1, 25)))
        result = stylizer.finish(job, stylizer.submit(job)())
    assert difference(result.planes[0], planes[0]) > 5
    np.testing.assert_array_equal(result.planes[1], planes[1])
    np.testing.assert_array_equal(result.planes[2], planes[2])


@pytest.mark.parametrize(
    ("size", "expected"),
    [((720, 1280), (720, 1280)), ((1080, 1920), (720, 1280)), ((1920, 1080), (1280, 720)), ((700, 3000), (700, 3000))],
)
def test_large_frames_are_painted_at_720_unless_told_otherwise(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert work_size(size) == expected
    assert work_size(size, 4000) == size
    note = work_size_note(size, LookOptions())
    assert note is None if size == expected else f"--work-size {size[0]}" in str(note)
    assert work_size_note(size, LookOptions(work_size=360)) is None


def test_work_size_is_what_the_network_sees() -> None:
    form = FrameFormat(height=180, width=320, pixels="rgb")
    with Stylizer(FIRST, look=LookOptions(work_size=90)) as stylizer:
        assert stylizer.open(form).form.size == (88, 156)
        assert stylizer(picture((180, 320), 0)).shape == (180, 320, 3)
    with Stylizer(FIRST, look=LookOptions(work_size=500)) as stylizer:
        assert stylizer.open(form).form.size == (180, 320)


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (np.zeros((4, 4), np.uint8), "np.repeat"),
        (np.zeros((4, 4, 1), np.uint8), "np.repeat"),
        (np.zeros((4, 4, 4), np.uint8), r"\[\.\.\., :3\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), "one picture after the other"),
        (np.zeros((3, 4, 5), np.uint8), "transpose"),
        (np.zeros((4, 4, 3), np.float32), r"\* 255"),
        (np.zeros((4, 4, 3), ">u2"), "astype"),
        (np.zeros((4, 4, 3), bool), "astype"),
        (np.zeros((0, 4, 3), np.uint8), "height"),
        (np.zeros((1, MAX_SIDE + 1, 3), np.uint8), "width"),
        ([[[1, 2, 3]]], "astype"),
        ([[1, 2], [3]], "list"),
        ("picture.jpg", "read_still"),
        (Path("picture.jpg"), "read_still"),
        (None, "NoneType"),
        (torch.zeros(3, 4, 5), "transpose"),
    ],
)
def test_what_is_not_a_picture_is_refused_with_what_to_do(bad: object, hint: str) -> None:
    with Stylizer(FIRST) as stylizer, pytest.raises(BadOption, match=hint):
        stylizer(bad)  # type: ignore[arg-type]


class Foreign:
    """A picture of another library, such as PIL's, whose memory may only be read."""

    def __init__(self, rgb: np.ndarray) -> None:
        self.__array_interface__ = {**np.ascontiguousarray(rgb).__array_interface__, "data": rgb.tobytes()}


def arrays_of(rgb: np.ndarray) -> dict[str, Any]:
    height, width = rgb.shape[:2]
    wide = np.zeros((height, 2 * width, 4), np.uint8)
    wide[:, ::2, :3] = rgb
    return {
        "read-only": np.frombuffer(rgb.tobytes(), np.uint8).reshape(rgb.shape),
        "every second column, of RGBA": wide[:, ::2, :3],
        "upside down": rgb[::-1].copy()[::-1],
        "BGR": rgb[..., ::-1].copy()[..., ::-1],
        "Fortran": np.asfortranarray(rgb),
        "torch": torch.tensor(rgb),
        "foreign": Foreign(rgb),
        "one color": np.broadcast_to(rgb[:1, :1], rgb.shape),
    }


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("look", [LookOptions(), LookOptions(strength=0.5, work_size=16, preserve_color=True)])
def test_arrays_of_every_kind_are_painted_alike(backend: BackendName, look: LookOptions) -> None:
    rgb = picture((16, 20), 0)
    with Stylizer(FIRST, look=look, backend=BackendOptions(backend=backend)) as stylizer:
        expected = {"one color": stylizer(np.ascontiguousarray(arrays_of(rgb)["one color"]))}
        painted = stylizer(rgb)
        for kind, array in arrays_of(rgb).items():
            np.testing.assert_array_equal(stylizer(array), expected.get(kind, painted), kind)


def test_the_result_is_an_array_of_its_own_even_where_nothing_is_painted() -> None:
    rgb = np.broadcast_to(np.uint8(7), (12, 16, 3))
    with Stylizer(FIRST, look=LookOptions(strength=0)) as stylizer:
        result = stylizer(rgb)
    assert result.flags.writeable and not np.shares_memory(result, rgb)
    np.testing.assert_array_equal(result, rgb)


@pytest.mark.parametrize("pixels", ["rgb", "i420", "nv12"])
def test_frames_over_memory_of_others_are_painted_alike(pixels: Pixels) -> None:
    form = FrameFormat(height=25, width=38, pixels=pixels)
    planes = tuple(
        picture((*shape[:2], 3)[:2], 0)[..., : int(np.prod(shape[2:]))].reshape(shape) for shape in form.plane_shapes
    )
    kinds = [planes, tuple(arrays_of_plane(p) for p in planes), tuple(p[::-1].copy()[::-1] for p in planes)]
    look = LookOptions(strength=0.5, work_size=16, preserve_color=True)
    with Stylizer(FIRST, look=look, smooth=SmoothOptions()) as stylizer:
        shown: list[Frame] = []
        for kind in kinds:
            stylize_stream(stylizer, [Frame(kind, form, 0, Fraction(1, 25))], shown.append)
            stylizer._smoother = None
    for frame in shown[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(frame.planes, shown[0].planes, strict=True))


def arrays_of_plane(plane: np.ndarray) -> np.ndarray:
    return np.frombuffer(plane.tobytes(), np.uint8).reshape(plane.shape)


@pytest.mark.parametrize(
    "planes", [[[1, 2], [3, 4]], None, np.zeros((4, 4, 3), np.uint8), (np.zeros((4, 4, 3)),), (), (b"", b"")]
)
def test_planes_that_do_not_fit_the_form_are_refused_in_a_sentence(planes: Any) -> None:
    with pytest.raises(BadOption, match=r"planes of the frame are .* shapes \(4, 4, 3\)"):
        Frame(planes, FrameFormat(height=4, width=4), 0, Fraction(1, 25))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Stylizer(5), "style is 5"),  # type: ignore[arg-type]
        (lambda: Stylizer(look={"strength": 1}), "LookOptions"),  # type: ignore[arg-type]
        (lambda: Stylizer(backend="onnxruntime"), "BackendOptions"),  # type: ignore[arg-type]
        (lambda: Stylizer(smooth=0.7), "SmoothOptions"),  # type: ignore[arg-type]
        (lambda: LookOptions(strength="1"), "strength is '1'"),  # type: ignore[arg-type]
        (lambda: LookOptions(work_size=99.5), "whole number"),  # type: ignore[arg-type]
        (lambda: BackendOptions(threads="2"), "threads"),  # type: ignore[arg-type]
        (lambda: FrameFormat(height=4.0, width=4), "height is 4.0"),  # type: ignore[arg-type]
        (lambda: FrameFormat(height=4, width=4, pixels="bgr"), "bgr"),  # type: ignore[arg-type]
        (lambda: render("a.mp4", "b.mp4", FIRST, encode="h264"), "EncodeOptions"),  # type: ignore[arg-type]
    ],
)
def test_arguments_of_another_kind_are_a_sentence(make: Callable[[], object], word: str) -> None:
    with pytest.raises(BadOption, match=word):
        make()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_of_a_stylizer_paints_the_same(copied: Callable[[Stylizer], Stylizer]) -> None:
    rgb = picture((24, 32), 0)
    look = LookOptions(strength=0.5)
    with Stylizer(f"{FIRST}:0.5,{SECOND}:0.5", look=look, backend=BackendOptions(threads=1)) as stylizer:
        painted = stylizer(rgb)
        with copied(stylizer) as other:
            assert other._open is not stylizer._open
            np.testing.assert_array_equal(other(rgb), painted)
        np.testing.assert_array_equal(stylizer(rgb), painted)


def test_a_program_is_not_copied_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with Stylizer(FIRST) as stylizer:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(VidstyleError, match="OpenVinoBackend cannot be copied"):
                copied(stylizer.open(FrameFormat(height=8, width=8)))
    assert capfd.readouterr() == ("", "")


@needs_fork
@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_forked_process_paints_with_what_its_parent_made(backend: BackendName) -> None:
    rgb = picture((90, 160), 0)
    options = BackendOptions(backend=backend, threads=2)
    with Stylizer(FIRST, backend=options) as stylizer:
        painted = stylizer(rgb)
        program, style = stylizer.open(FrameFormat(height=90, width=160)), stylizer.style
        waiting = program.submit((rgb,), style)

        def paint() -> None:
            for inherited in (waiting, lambda: program.submit((rgb,), style)):
                with pytest.raises(VidstyleError, match="forked"):
                    inherited()
            with Stylizer(FIRST, backend=options) as new:
                for one in (stylizer, new):
                    assert np.abs(one(rgb).astype(int) - painted).max() <= 1
            stylizer.close()

        in_a_fork(paint)
        waiting()
        np.testing.assert_array_equal(stylizer(rgb), painted)


def in_a_fork(check: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forking beside threads may hang is what is tested
        child = os.fork()
    if child == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    until = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.02)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


@needs_fork
@pytest.mark.parametrize("closed", [False, True])
def test_a_process_forked_from_one_that_has_painted_with_openvino_never_waits(closed: bool) -> None:
    code = """
import os, sys
import numpy as np
from vidstyle import BackendOptions, Stylizer, VidstyleError
rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
old = Stylizer(backend=BackendOptions(backend="openvino"))
painted = old(rgb)
if sys.argv[1] == "True":
    old.close()
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for stylizer in (old, Stylizer(backend=BackendOptions(backend="openvino"))):
    try:
        print(np.array_equal(stylizer(rgb), painted))
    except VidstyleError as error:
        print(error)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(closed)]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and (all("spawn" in line for line in lines) if closed else lines == ["True", "True"])


def test_few_programs_are_kept_open() -> None:
    with Stylizer(FIRST, backend=BackendOptions(threads=1)) as stylizer:
        for side in range(16, 16 + 4 * 8, 4):
            stylizer(picture((side, side), 0))
        assert len(stylizer._open) == 4


def test_stream_keeps_order_and_times() -> None:
    written: list[Frame] = []
    with Stylizer(FIRST) as stylizer:
        seconds = stylize_stream(stylizer, frames(12), written.append)
    assert [frame.pts for frame in written] == [index * 3 for index in range(12)]
    assert seconds.infer > 0


def test_stream_of_nothing_is_nothing() -> None:
    with Stylizer(FIRST) as stylizer:
        assert stylize_stream(stylizer, iter(()), lambda frame: None).infer == 0


def test_a_style_set_by_the_source_belongs_to_that_very_frame() -> None:
    a, b = load_style(FIRST), load_style(SECOND)
    form = FrameFormat(height=48, width=64, pixels="rgb")
    still = picture(form.size, 0)
    written: list[np.ndarray] = []
    with Stylizer(a) as stylizer:
        expected = {a.name: stylizer(still)}
        stylizer.style = b
        expected[b.name] = stylizer(still)
        order = [a, b, b, a, b, a, a, b] * 3

        def switching() -> Iterator[Frame]:
            for pts, style in enumerate(order):
                stylizer.style = style
                yield Frame((still,), form, pts, Fraction(1, 25))

        stylize_stream(stylizer, switching(), lambda frame: written.append(frame.planes[0]))
    for style, painted in zip(order, written, strict=True):
        np.testing.assert_array_equal(painted, expected[style.name])


def test_render_keeps_times_and_sound(tmp_path: Path) -> None:
    pts = [0, 40, 81, 140, 180, 260, 300, 333, 400, 441]
    source = make_video(
        tmp_path / "in.mp4",
        size=(96, 128),
        frames=len(pts),
        pts=pts,
        time_base=Fraction(1, 1000),
        audio=[Audio(seconds=0.5)],
    )
    report = render(source, tmp_path / "out.mp4", FIRST)
    pictures, times = decoded(tmp_path / "out.mp4")
    originals, original_times = decoded(source)
    assert times == original_times
    assert all(difference(a, b) > 5 for a, b in zip(pictures, originals, strict=True))
    with av.open(str(source)) as a, av.open(str(tmp_path / "out.mp4")) as b:
        sound = [[bytes(p) for p in f.demux(audio=0) if p.size] for f in (a, b)]
    assert sound[0] == sound[1]
    assert (report.frames, report.lost, report.style) == (10, 0, FIRST)
    assert report.fps > 0
    assert report.seconds_of_video == pytest.approx(times[-1] - times[0], abs=0.1)


def test_render_scales_to_the_size_asked_for(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", size=(96, 128), frames=3)
    render(source, tmp_path / "a.mp4", FIRST, size=(48, None))
    render(source, tmp_path / "b.mp4", FIRST, size=(80, 60))
    assert decoded(tmp_path / "a.mp4")[0][0].shape == (48, 64, 3)
    assert decoded(tmp_path / "b.mp4")[0][0].shape == (80, 60, 3)


def test_render_of_a_part_begins_at_zero(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=50, rate=25)
    report = render(source, tmp_path / "out.mp4", FIRST, clip=ClipOptions(start=0.4, end=1.2))
    _, times = decoded(tmp_path / "out.mp4")
    assert times == pytest.approx([i / 25 for i in range(20)], abs=1e-4)
    assert report.frames == 20


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_clip_of_nothing_is_refused_and_the_old_file_kept(
    tmp_path: Path, suffix: str, compilations: list[str]
) -> None:
    source = make_video(tmp_path / f"in{suffix}", frames=25, options={"bf": "2"})
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(BadOption, match=rf"start is 1:40; in\{suffix} lasts 0:01"):
        render(source, tmp_path / "out.mp4", FIRST, clip=ClipOptions(start=100), overwrite=True)
    assert (tmp_path / "out.mp4").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in{suffix}", "out.mp4"]
    assert compilations == []


def test_a_clip_before_the_first_picture_is_refused(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pts=[2000, 2040], time_base=Fraction(1, 1000), audio=[Audio(seconds=3)])
    with pytest.raises(BadOption, match=r"in\.mkv shows no picture from 0:00 to 0:01"):
        render(source, tmp_path / "out.mp4", FIRST, clip=ClipOptions(end=1))
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("clip", [ClipOptions(), ClipOptions(start=0.4)])
def test_seconds_of_video_count_from_the_start_of_the_clock(tmp_path: Path, clip: ClipOptions) -> None:
    options = {"output_ts_offset": "95000"}
    source = make_video(tmp_path / "in.ts", frames=25, audio=[Audio()], container_options=options)
    report = render(source, tmp_path / "out.mp4", FIRST, clip=clip)
    assert report.seconds_of_video == pytest.approx(1 - clip.start, abs=0.03)


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=7)
    started: list[RenderReport] = []
    seen: list[Progress] = []
    render(source, tmp_path / "out.mp4", FIRST, on_start=started.append, on_progress=seen.append)
    assert [p.frames for p in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert seen[-1].total == 7
    assert started[0].backend


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=30)

    def fail(progress: Progress) -> None:
        if progress.frames == 5:
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        render(source, tmp_path / "out.mp4", FIRST, on_progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    assert threading.active_count() == len([t for t in threading.enumerate() if not t.name.startswith("vidstyle")])


def test_an_existing_output_is_kept(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=2)
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises((BadOption, VideoError), match="overwrite"):
        render(source, tmp_path / "out.mp4", FIRST)
    assert (tmp_path / "out.mp4").read_text() == "precious"


def still_video(path: Path, pts: list[int], **more: Any) -> Path:
    """One picture at the times ``pts``, in milliseconds, without loss: only the style can change it."""
    return make_video(
        path,
        size=(48, 64),
        pts=pts,
        time_base=Fraction(1, 1000),
        pictures=[picture((48, 64), 0)] * len(pts),
        **{"codec": "ffv1", **more},
    )


def painted(source: Path, style: str | Timeline, clip: ClipOptions | None = None) -> dict[Fraction, np.ndarray]:
    """The luma and chroma of each frame of the rendered ``source`` by its time in the output."""
    output = source.with_suffix(".out.mkv")
    render(source, output, style, encode=LOSSLESS, clip=clip, overwrite=True)
    with av.open(str(output)) as file:
        return {f.pts * f.time_base: f.to_ndarray() for f in file.decode(video=0)}


def test_frames_at_the_times_of_styles_are_those_of_the_styles_alone(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", size=(48, 64), frames=51, codec="ffv1")  # a moving picture
    changing = painted(source, Timeline([(0, FIRST), (1, f"{SECOND}:0.5,{THIRD}:0.5"), (2, THIRD)], fade=0.6))
    held = {
        FIRST: range(0, 11),
        f"{SECOND}:0.5,{THIRD}:0.5": range(25, 36),
        THIRD: range(50, 51),
    }
    for style, indices in held.items():
        alone = painted(source, style)
        assert alone.keys() == changing.keys()
        for index in indices:
            np.testing.assert_array_equal(changing[Fraction(index, 25)], alone[Fraction(index, 25)])
        assert difference(changing[Fraction(18, 25)], alone[Fraction(18, 25)]) > 1


def test_a_crossfade_moves_on_steadily(tmp_path: Path) -> None:
    source = still_video(tmp_path / "in.mkv", [40 * i for i in range(41)])
    shown = list(painted(source, Timeline([(0, FIRST), (1.4, SECOND)], fade=1.2)).values())
    assert all((frame == shown[0]).all() for frame in shown[:6])
    assert all((frame == shown[35]).all() for frame in shown[35:])
    fading = shown[5:36]
    whole = difference(fading[0], fading[-1])
    assert whole > 5
    # Ever further from the style that goes and nearer to the one that comes, but for a rounded level.
    away = np.diff([difference(frame, fading[0]) for frame in fading])
    nearer = -np.diff([difference(frame, fading[-1]) for frame in fading])
    assert min(away.min(), nearer.min()) > -0.01 * whole
    steps = np.array([difference(a, b) for a, b in zip(fading, fading[1:], strict=False)])
    assert steps.max() < 2.5 * steps.mean()
    assert (steps[1:-1] < 2 * np.maximum(steps[:-2], steps[2:])).all()  # no jump between two small steps
    assert max(steps[0], steps[-1]) < steps.mean() / 2  # it begins and ends softly


def test_a_frame_has_the_style_of_its_time_at_any_rate(tmp_path: Path) -> None:
    timeline = Timeline([(0, FIRST), (1, SECOND), (1.5, THIRD)], fade=0.8)
    even = painted(still_video(tmp_path / "even.mkv", list(range(0, 2000, 20))), timeline)
    times = [0, 20, 40, 280, 300, 780, 860, 880, 1000, 1020, 1300, 1320, 1480, 1500, 1900]
    uneven = painted(still_video(tmp_path / "uneven.mkv", times), timeline)
    assert list(uneven) == [Fraction(t, 1000) for t in times]
    for seconds, frame in uneven.items():
        np.testing.assert_array_equal(frame, even[seconds])


def test_times_of_styles_are_those_of_the_output(tmp_path: Path) -> None:
    source = still_video(tmp_path / "in.mkv", list(range(0, 2000, 40)))
    timeline = Timeline([(0, FIRST), (0.8, SECOND)], fade=0.4)
    whole = painted(source, timeline)
    part = painted(source, timeline, ClipOptions(start=0.6, end=1.8))
    assert list(part) == [Fraction(i, 25) for i in range(30)]
    for seconds, frame in part.items():
        np.testing.assert_array_equal(frame, whole[seconds])


@pytest.mark.parametrize(
    ("name", "more"),
    [("late.mkv", {}), ("broadcast.ts", {"codec": "libx264", "options": {"crf": "0"}})],
)
def test_a_clock_that_begins_late_counts_from_its_beginning(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    timeline = Timeline([(0, FIRST), (0.8, SECOND)], fade=0)
    late = painted(still_video(tmp_path / name, [7000 + 40 * i for i in range(30)], **more), timeline)
    frames = [frame for _, frame in sorted(late.items())]
    assert len(frames) == 30
    assert difference(frames[19], frames[20]) > 5
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, frames[19 if index < 20 else 20])


def test_the_report_names_the_styles_and_their_times(tmp_path: Path) -> None:
    source = still_video(tmp_path / "in.mkv", list(range(0, 2000, 40)))
    report = render(source, tmp_path / "a.mp4", Timeline([(0, FIRST), (1, SECOND)], fade=0.5))
    assert report.style == f"{FIRST}, from 0:01 {SECOND}"
    assert (report.styles, report.fade) == ([(0.0, FIRST), (1.0, SECOND)], 0.5)
    report = render(source, tmp_path / "b.mp4", FIRST)
    assert (report.style, report.styles) == (FIRST, [(0.0, FIRST)])


def test_a_style_behind_the_end_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = still_video(tmp_path / "in.mkv", list(range(0, 2000, 40)))
    timeline = Timeline([(0, FIRST), (5, SECOND)])
    with pytest.raises(BadOption, match=f"'{SECOND}' at 0:05 is never seen, as the output ends at 0:02; give"):
        render(source, tmp_path / "out.mp4", timeline)
    with pytest.raises(BadOption, match=r"ends at 0:01\.5"):
        render(source, tmp_path / "out.mp4", timeline, clip=ClipOptions(start=0.2, end=1.7))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    # A fade that is on its way at the end is seen.
    assert not render(source, tmp_path / "out.mp4", Timeline([(0, FIRST), (5, SECOND)], fade=4)).notes


def test_a_style_behind_the_end_of_a_file_that_hides_it_is_a_note(tmp_path: Path) -> None:
    source = still_video(tmp_path / "in.h264", list(range(0, 1000, 40)), codec="libx264")
    report = render(source, tmp_path / "out.mp4", Timeline([(0, FIRST), (5, SECOND)]))
    assert [note for note in report.notes if "never seen" in note] == [
        f"style '{SECOND}' at 0:05 is never seen, as the output ends at 0:00.96"
    ]


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every graph that OpenVINO compiles or reads back from here on."""
    from vidstyle.backends import openvino

    done: list[str] = []
    compile_graph = openvino._compile

    def counted(*arguments: Any) -> Any:
        done.append("compiled")
        return compile_graph(*arguments)

    monkeypatch.setattr(openvino, "_compile", counted)
    return done


def test_one_program_plays_every_style(compilations: list[str], tmp_path: Path) -> None:
    source = still_video(tmp_path / "in.mkv", list(range(0, 2000, 40)))
    timeline = Timeline([(0, FIRST), (1, SECOND), (1.6, f"{FIRST}:0.5,{THIRD}:0.5")])
    render(source, tmp_path / "out.mp4", timeline, backend=BackendOptions(backend="openvino"))
    assert len(compilations) == 1


@pytest.mark.alone
def test_switching_the_style_takes_under_a_millisecond(compilations: list[str]) -> None:
    form = FrameFormat(height=720, width=1280, pixels="i420")
    frame = Frame(tuple(np.zeros(shape, np.uint8) for shape in form.plane_shapes), form, 0, Fraction(1, 25))
    a, b = load_style(FIRST), load_style(SECOND)
    with Stylizer(a, backend=BackendOptions(backend="openvino")) as stylizer:
        first = stylizer.submit(stylizer.prepare(frame))()
        assert len(compilations) == 1
        ways = {
            "styles": lambda index: (a, b)[index % 2],
            "blends": lambda index: blend([(a, index / 300), (b, 1 - index / 300)]),
            "names": lambda index: (FIRST, SECOND)[index % 2],
        }
        for way, style_of in ways.items():
            seconds = []
            for index in range(300):
                began = time.perf_counter()
                stylizer.style = style_of(index)
                stylizer.prepare(frame)
                seconds.append(time.perf_counter() - began)
            assert statistics.median(seconds) < 1e-3, way
        stylizer.style = b
        other = stylizer.submit(stylizer.prepare(frame))()
        assert difference(first[0], other[0]) > 1
    assert len(compilations) == 1


# Styles as whole networks


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_one_program_plays_whole_networks_vectors_and_the_fades_between(
    name: BackendName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []

    def counted(owner: Any, method: str) -> None:
        original = getattr(owner, method)

        def count(*given: Any, **more: Any) -> Any:
            compiled.append(method)
            return original(*given, **more)

        monkeypatch.setattr(owner, method, count)

    counted(openvino.Core, "compile_model")
    counted(onnxruntime.InferenceSession, "__init__")
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path / "home"))
    styles = [whole_style("a", 1), load_style("great_wave"), whole_style("b", 2), whole_style("c", 3)]
    backend = BackendOptions(backend=name, precision="fp32", threads=1)
    source, output = make_video(tmp_path / "in.mkv", size=(48, 64), frames=13, rate=4), tmp_path / "out.mkv"
    timeline = Timeline([(second, style) for second, style in enumerate(styles)], fade=0.5)
    render(source, output, timeline, backend=backend, encode=LOSSLESS)
    assert len(compiled) == 1
    (home,) = [*(tmp_path / "home").glob("openvino/*.model")] or [None]
    assert (home is not None) == (name == "openvino")

    found = read_rgb(output)
    for second, style in enumerate(styles):
        render(source, tmp_path / f"{second}.mkv", style, backend=backend, encode=LOSSLESS)
        # At its time a style is there, to the very frame; a program of one style may round otherwise.
        assert psnr(found[4 * second], read_rgb(tmp_path / f"{second}.mkv")[4 * second]) > 50, style.name


def test_a_stylizer_of_one_style_plays_no_other() -> None:
    with Stylizer("great_wave", fixed=True) as stylizer:
        stylizer.style = "great_wave"
        with pytest.raises(BadOption, match="for 'great_wave' alone"):
            stylizer.style = "the_scream"
