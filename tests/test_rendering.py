"""Streams of frames, whole videos, pictures and folders of pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime
import openvino
import pytest
from media import Audio, make_video, picture, read_contents, read_rgb
from networks import difference, psnr, whole_style

from vidstyle import (
    BackendOptions,
    BadOption,
    ClipOptions,
    EncodeOptions,
    Frame,
    FrameFormat,
    ImageError,
    LookOptions,
    Progress,
    RenderReport,
    Stylizer,
    Timeline,
    render,
    stylize_stream,
)
from vidstyle.gallery import load_style, shared_network, style_names
from vidstyle.imaging.image_io import Still, read_still, write_still
from vidstyle.models.architecture import Network
from vidstyle.models.style import Style
from vidstyle.options import BackendName
from vidstyle.rendering import FileResult, stylize_file, stylize_folder, stylize_still

FIRST, SECOND, THIRD = style_names()[:3]
LOSSLESS = EncodeOptions(codec="ffv1")


def frames(count: int, form: FrameFormat | None = None) -> Iterator[Frame]:
    form = form or FrameFormat(height=48, width=64, pixels="rgb")
    for index in range(count):
        yield Frame((picture(form.size, index),), form, index * 3, Fraction(1, 90))


# Streams


def test_stream_keeps_order_and_times() -> None:
    written: list[Frame] = []
    with Stylizer(FIRST) as stylizer:
        seconds = stylize_stream(stylizer, frames(12), written.append)
        assert stylize_stream(stylizer, iter(()), written.append).infer == 0
    assert [frame.pts for frame in written] == [index * 3 for index in range(12)]
    assert seconds.infer > 0


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


# Videos


def test_render_keeps_times_and_sound(tmp_path: Path) -> None:
    pts = [0, 40, 81, 140, 180, 260, 300, 333, 400, 441]
    made: dict[str, Any] = {"time_base": Fraction(1, 1000), "audio": [Audio(seconds=0.5)]}
    source, output = make_video(tmp_path / "in.mp4", size=(96, 128), pts=pts, **made), tmp_path / "out.mp4"
    report = render(source, output, FIRST)
    before, after = read_contents(source), read_contents(output)
    assert (after.pts, after.packets) == (before.pts, before.packets)
    assert all(difference(a, b) > 5 for a, b in zip(read_rgb(output), read_rgb(source), strict=True))
    assert (report.frames, report.lost, report.style) == (10, 0, FIRST)
    assert report.fps > 0
    assert report.seconds_of_video == pytest.approx(0.441, abs=0.1)


def test_render_scales_to_the_size_asked_for(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", size=(96, 128), frames=3)
    render(source, tmp_path / "a.mp4", FIRST, size=(48, None))
    render(source, tmp_path / "b.mp4", FIRST, size=(80, 60))
    assert read_rgb(tmp_path / "a.mp4")[0].shape == (48, 64, 3)
    assert read_rgb(tmp_path / "b.mp4")[0].shape == (80, 60, 3)


def test_render_of_a_part_begins_at_zero(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", frames=50, rate=25)
    report = render(source, tmp_path / "out.mp4", FIRST, clip=ClipOptions(start=0.4, end=1.2))
    assert read_contents(tmp_path / "out.mp4").pts == [Fraction(i, 25) for i in range(20)]
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


def still_video(path: Path, pts: list[int], **more: Any) -> Path:
    """One picture at the times ``pts``, in milliseconds, without loss: only the style can change it."""
    pictures = [picture((48, 64), 0)] * len(pts)
    return make_video(path, pts=pts, time_base=Fraction(1, 1000), pictures=pictures, **{"codec": "ffv1", **more})


def painted(source: Path, style: str | Timeline, clip: ClipOptions | None = None) -> dict[Fraction, np.ndarray]:
    """The luma and chroma of each frame of the rendered ``source`` by its time in the output."""
    output = source.with_suffix(".out.mkv")
    exact = BackendOptions(precision="fp32")  # 8-bit integers are for one style alone
    render(source, output, style, encode=LOSSLESS, clip=clip, backend=exact, overwrite=True)
    with av.open(str(output)) as file:
        return {f.pts * f.time_base: f.to_ndarray() for f in file.decode(video=0)}


def test_frames_at_the_times_of_styles_are_those_of_the_styles_alone(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", size=(48, 64), frames=51, codec="ffv1")  # a moving picture
    changing = painted(source, Timeline([(0, FIRST), (1, f"{SECOND}:0.5,{THIRD}:0.5"), (2, THIRD)], fade=0.6))
    held = {FIRST: range(0, 11), f"{SECOND}:0.5,{THIRD}:0.5": range(25, 36), THIRD: range(50, 51)}
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
    ("name", "more"), [("late.mkv", {}), ("broadcast.ts", {"codec": "libx264", "options": {"crf": "0"}})]
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
    with pytest.raises(BadOption, match=f"'{SECOND}' at 0:05 is never seen, .* ends at 0:02"):
        render(source, tmp_path / "out.mp4", timeline)
    with pytest.raises(BadOption, match=r"ends at 0:01\.5"):
        render(source, tmp_path / "out.mp4", timeline, clip=ClipOptions(start=0.2, end=1.7))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    # A fade that is on its way at the end is seen.
    assert not render(source, tmp_path / "out.mp4", Timeline([(0, FIRST), (5, SECOND)], fade=4)).notes


def test_a_style_behind_the_end_of_a_file_that_hides_it_is_a_note(tmp_path: Path) -> None:
    source = still_video(tmp_path / "in.h264", list(range(0, 1000, 40)), codec="libx264")
    report = render(source, tmp_path / "out.mp4", Timeline([(0, FIRST), (5, SECOND)]))
    assert f"'{SECOND}' at 0:05 is never seen, as the output ends at 0:00.96" in report.notes[-1]


def test_one_program_plays_every_style(compilations: list[str], tmp_path: Path) -> None:
    source = still_video(tmp_path / "in.mkv", list(range(0, 2000, 40)))
    timeline = Timeline([(0, FIRST), (1, SECOND), (1.6, f"{FIRST}:0.5,{THIRD}:0.5")])
    render(source, tmp_path / "out.mp4", timeline, backend=BackendOptions(backend="openvino"))
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


# Pictures and folders


def painting(**look: object) -> Stylizer:
    network = shared_network("fast")
    vector = np.random.default_rng(3).normal(0.5, 0.4, network.architecture.style_size).astype(np.float32)
    style = Style.of("random", Network(network.architecture, network.weights, vector))
    return Stylizer(style, look=LookOptions(**look), backend=BackendOptions(threads=2))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def painter() -> Iterator[Stylizer]:
    with painting() as made:
        yield made


def test_alpha_profile_and_size_stay_while_the_colors_change(painter: Stylizer) -> None:
    alpha = np.arange(33 * 47, dtype=np.uint8).reshape(33, 47)
    still = Still(picture((33, 47), 0), alpha, b"profile", "x", ("a note",))
    painted = stylize_still(painter, still)
    assert painted.size == (33, 47) and painted.alpha is alpha
    assert (painted.profile, painted.name, painted.notes) == (b"profile", "x", ("a note",))
    assert np.abs(painted.rgb.astype(int) - still.rgb).mean() > 3


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (17, 9)])
def test_the_smallest_pictures_are_painted(painter: Stylizer, size: tuple[int, int]) -> None:
    assert stylize_still(painter, Still(picture(size, 0))).size == size


def test_a_large_picture_is_painted_smaller_and_says_so(painter: Stylizer) -> None:
    still = Still(picture((728, 740), 0))
    painted = stylize_still(painter, still)
    assert painted.size == still.size and "720 of 728 rows" in painted.notes[0]
    with painting(work_size=720) as named:
        assert np.array_equal(stylize_still(named, still).rgb, painted.rgb)


def test_a_file_is_painted_into_another(painter: Stylizer, tmp_path: Path) -> None:
    write_still(tmp_path / "in.png", Still(picture((48, 64), 0), np.full((48, 64), 100, np.uint8)))
    result = stylize_file(painter, tmp_path / "in.png", tmp_path / "out.jpg")
    assert result.error is None and len(result.notes) == 1 and "transparency" in result.notes[0]
    assert read_still(tmp_path / "out.jpg").size == (48, 64)


def test_what_cannot_be_written_is_said_before_anything_is_read(painter: Stylizer, tmp_path: Path) -> None:
    write_still(tmp_path / "in.png", Still(picture((48, 64), 0)))
    with pytest.raises(BadOption, match="input itself"):
        stylize_file(painter, tmp_path / "in.png", tmp_path / "in.png", overwrite=True)
    with pytest.raises(BadOption, match="there is no folder"):
        stylize_file(painter, tmp_path / "not there either.png", tmp_path / "nowhere" / "out.png")


def make_folder(folder: Path) -> None:
    folder.mkdir()
    for name in ("b.png", "a.jpg", "C.WEBP"):
        write_still(folder / name, Still(picture((48, 64), 0)))
    (folder / "damaged.png").write_bytes((folder / "b.png").read_bytes()[:-30])
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._a.jpg").write_bytes(b"what macOS leaves beside a.jpg")
    (folder / "sub.png").mkdir()


def test_a_folder_is_painted_and_what_is_unreadable_is_told(painter: Stylizer, tmp_path: Path) -> None:
    make_folder(tmp_path / "in")
    seen: list[tuple[FileResult, int]] = []
    results = stylize_folder(
        painter, tmp_path / "in", tmp_path / "out", on_file=lambda result, total: seen.append((result, total))
    )
    assert [(Path(r.source).name, r.error is None) for r in results] == [
        ("C.WEBP", True), ("a.jpg", True), ("b.png", True), ("damaged.png", False), ("empty.jpg", False),
    ]  # fmt: skip
    assert [r for r, _ in seen] == results and {total for _, total in seen} == {5}
    damaged, empty = [r.error for r in results if r.error]
    assert "damaged.png is cut short" in damaged and "empty.jpg is empty" in empty
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["C.WEBP", "a.jpg", "b.png"]


def test_pictures_that_exist_are_kept_unless_told_otherwise(painter: Stylizer, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_still(tmp_path / "in" / "a.png", Still(picture((48, 64), 0)))
    write_still(tmp_path / "out" / "a.png", Still(picture((4, 4), 0)))
    (result,) = stylize_folder(painter, tmp_path / "in", tmp_path / "out")
    assert "exists" in str(result.error)
    assert read_still(tmp_path / "out" / "a.png").size == (4, 4)
    (result,) = stylize_folder(painter, tmp_path / "in", tmp_path / "out", overwrite=True)
    assert result.error is None
    assert read_still(tmp_path / "out" / "a.png").size == (48, 64)


def test_folders_that_cannot_be_worked_on_are_sentences(painter: Stylizer, tmp_path: Path) -> None:
    make_folder(tmp_path / "in")
    (tmp_path / "bare").mkdir()
    (tmp_path / "file").touch()
    for source, output, words in (
        ("in", "bare/../in", "both the folder read and the folder written"),
        ("bare", "out", "holds no pictures"),
        ("gone", "out", "cannot read the folder .*: No such file"),
        ("in", "deep/er", "cannot write to .*: No such file"),
        ("in", "file", "is a file"),
    ):
        with pytest.raises((BadOption, ImageError), match=words):
            stylize_folder(painter, tmp_path / source, tmp_path / output)
    assert not (tmp_path / "out").exists()
