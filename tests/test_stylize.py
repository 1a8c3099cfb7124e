"""The public face: arrays, frames, and whole videos."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import Audio, make_video, picture

from vidstyle import (
    BackendOptions,
    BadOption,
    ClipOptions,
    Frame,
    FrameForm,
    LookOptions,
    Progress,
    RenderReport,
    Stylizer,
    VideoError,
    render,
    stylize_stream,
)
from vidstyle.gallery import load_style, style_names
from vidstyle.style import blend

FIRST, SECOND = style_names()[:2]


def frames(count: int, form: FrameForm | None = None) -> Iterator[Frame]:
    form = form or FrameForm(height=48, width=64, pixels="rgb")
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
    form = FrameForm(height=48, width=64, pixels="i420")
    planes = tuple(np.random.default_rng(1).integers(60, 190, shape, dtype=np.uint8) for shape in form.plane_shapes)
    with Stylizer(FIRST, look=LookOptions(preserve_color=True)) as stylizer:
        job = stylizer.prepare(Frame(planes, form, 0, Fraction(1, 25)))
        result = stylizer.compose(job, stylizer.submit(job)())
    assert difference(result.planes[0], planes[0]) > 5
    np.testing.assert_array_equal(result.planes[1], planes[1])
    np.testing.assert_array_equal(result.planes[2], planes[2])


def test_work_size_is_what_the_network_sees() -> None:
    form = FrameForm(height=180, width=320, pixels="rgb")
    with Stylizer(FIRST, look=LookOptions(work_size=90)) as stylizer:
        assert stylizer.open(form).program.form.size == (88, 156)
        assert stylizer(picture((180, 320), 0)).shape == (180, 320, 3)
    with Stylizer(FIRST, look=LookOptions(work_size=500)) as stylizer:
        assert stylizer.open(form).program.form.size == (180, 320)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "picture.jpg"]
)
def test_what_is_not_a_picture_is_refused(bad: object) -> None:
    with Stylizer(FIRST) as stylizer, pytest.raises(BadOption, match=r"uint8 RGB array of shape"):
        stylizer(bad)  # type: ignore[arg-type]


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
    form = FrameForm(height=48, width=64, pixels="rgb")
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
