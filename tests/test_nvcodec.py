"""NVDEC and NVENC: what they are asked for, what happens without them, and on a GPU that they agree with the CPU."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.codec import CodecContext
from av.video.frame import VideoFrame
from conftest import has_gpu
from media import copy, make_video, psnr, read, read_contents, read_rgb

from vidstyle.errors import BadOption, VideoError
from vidstyle.frame import Frame, FrameFormat, Planes
from vidstyle.options import ClipOptions, Codec, EncodeOptions
from vidstyle.video.convert import PlaneReader, PlaneWriter, plane_view
from vidstyle.video.demux import on_host, packets
from vidstyle.video.formats import ENCODERS, NVENC_ENCODERS
from vidstyle.video.nvcodec import GpuFrames, GpuPlane, VideoGpu, is_in_one_piece, nvdec_decoder, nvenc_obstacle
from vidstyle.video.reader import VideoReader
from vidstyle.video.writer import VideoWriter

without_gpu = pytest.mark.skipif(has_gpu(), reason="this machine has an NVIDIA GPU")

VFR = (0, 40, 60, 61, 200, 333, 1000, 1010, 1100, 1150, 1160, 1300)
REORDERED = {"preset": "medium", "bf": "3", "g": "30"}
ON_DEVICE = {"pixels": "nv12", "on_device": True}
NVDEC, AUTO_DECODER = ClipOptions(decoder="nvdec"), ClipOptions(decoder="auto")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Frames at uneven times, stored out of order; 180 rows, which H.264 codes as 192."""
    return make_video(
        tmp_path / "in.mp4", size=(180, 320), pts=VFR, time_base=Fraction(1, 1000), options=REORDERED, smooth=True
    )


def frames_of(path: Path, **options: Any) -> list[tuple[int, int, list[bytes]]]:
    """Time, length and bytes of each frame."""
    with VideoReader(path, **options) as video:
        return [(f.pts, f.duration, [p.tobytes() for p in f.planes]) for f in video.frames()]


@without_gpu
def test_nvdec_by_name_needs_a_gpu(clip: Path) -> None:
    with pytest.raises(VideoError, match=r"^NVDEC cannot decode .*in\.mp4: this machine has no NVIDIA driver; decode"):
        VideoReader(clip, clip=NVDEC)


@without_gpu
@pytest.mark.parametrize("on_device", [False, True])
def test_automatic_decoding_falls_back_and_says_why(
    clip: Path, on_device: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with VideoReader(clip, pixels="nv12", clip=AUTO_DECODER, gpu=0, on_device=on_device) as video:
        assert video.notes == ["NVDEC is not used, the processor decodes: this machine has no NVIDIA driver"]
        assert (video.decoder, video.on_device) == ("software", False)
    assert frames_of(clip, clip=AUTO_DECODER) == frames_of(clip)
    assert capfd.readouterr() == ("", "")
    assert av.logging.get_level() is None


@pytest.mark.parametrize(
    ("made", "asked", "why"),
    [
        ({"pixel_format": "yuv420p10le"}, {}, "the video is yuv420p10le, not 8-bit 4:2:0"),
        ({"pixel_format": "yuv444p"}, {}, "the video is yuv444p, not 8-bit 4:2:0"),
        ({"codec": "mpeg4"}, {}, "the video is mpeg4"),
        ({"color": {"color_primaries": 9, "color_trc": 16, "colorspace": 9}}, {}, "the video is HDR"),
        ({"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}}, {}, "the video is interlaced"),
        ({"rotation": 90}, ON_DEVICE, "turned or mirrored"),
        ({"mirrored": True}, ON_DEVICE, "turned or mirrored"),
        ({"size": (49, 64), "codec": "libvpx-vp9"}, ON_DEVICE, "the picture is 64x49"),
        ({}, ON_DEVICE | {"matrix": "bt709"}, "colors of the video are converted"),
        ({}, ON_DEVICE | {"full_range": True}, "colors of the video are converted"),
        ({"color": {"colorspace": 4}}, ON_DEVICE, "colors of the video are converted"),
    ],
)
def test_a_video_not_made_for_nvdec_is_decoded_in_software(
    tmp_path: Path, made: dict[str, Any], asked: dict[str, Any], why: str
) -> None:
    path = make_video(tmp_path / "in.mp4", **made)
    with VideoReader(path, clip=NVDEC, **asked) as video:
        assert video.notes[-1].startswith("NVDEC is not used, the processor decodes: ") and why in video.notes[-1]
        assert not video.on_device
        found = [(f.pts, f.duration, [p.tobytes() for p in f.planes]) for f in video.frames()]
    assert found == frames_of(path, **asked | {"on_device": False})


def test_only_nv12_stays_on_the_gpu(clip: Path) -> None:
    with pytest.raises(BadOption, match="pixels = 'i420' cannot stay on the GPU"):
        VideoReader(clip, clip=AUTO_DECODER, on_device=True)


@pytest.mark.parametrize(
    ("codec", "container"), [("libx264", "mp4"), ("libx264", "ts"), ("libx265", "mkv"), ("libvpx-vp9", "webm")]
)
def test_the_decoder_made_for_the_gpu_gives_what_the_streams_own_gives(
    tmp_path: Path, codec: str, container: str
) -> None:
    # With no GPU behind it, the same decoder runs in software.
    options = {"libx264": REORDERED, "libx265": {"x265-params": "log-level=none"}}.get(codec, {})
    path = make_video(tmp_path / f"in.{container}", codec=codec, size=(90, 120), options=options)
    found: list[Any] = []
    for own in (True, False):
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            name = stream.codec_context.codec.canonical_name
            decoder = stream.codec_context if own else nvdec_decoder(stream, name, None)
            pictures = [f for packet in packets(file, stream) for f in decoder.decode(packet)]
            found.append([(f.pts, f.dts, f.duration, f.time_base, f.to_ndarray().tobytes()) for f in pictures])
    assert len(found[0]) == 10
    assert found[0] == found[1]


@pytest.mark.parametrize("pixels", ["i420", "nv12"])
def test_downloaded_nv12_is_read_without_loss(clip: Path, pixels: Any) -> None:
    with VideoReader(clip) as video:
        form = FrameFormat(height=180, width=320, pixels=pixels, matrix=video.form.matrix)
        reader = PlaneReader(video.info, form)
        frame = next(video.frames())
        nv12 = VideoFrame(320, 180, "nv12")
        luma, chroma = nv12.planes
        np.copyto(plane_view(luma, (180, 320)), frame.planes[0])
        np.copyto(plane_view(chroma, (90, 160, 2)), np.stack(frame.planes[1:], axis=-1))
        planes = reader.read(nv12)
    expected = frame.planes if pixels == "i420" else (frame.planes[0], np.stack(frame.planes[1:], axis=-1))
    for plane, same in zip(planes, expected, strict=True):
        np.testing.assert_array_equal(plane, same)


def in_host_memory(frame: Frame) -> Frame:
    """The same NV12 picture as planes that are no arrays: what `GpuPlane` is, over FFmpeg's host memory."""
    height, width = frame.form.size
    picture = VideoFrame(width, height, "nv12")
    for plane, source in zip(picture.planes, frame.planes, strict=True):
        np.copyto(plane_view(plane, source.shape), source)
    pairs = zip(picture.planes, frame.form.plane_shapes, strict=True)
    return frame.with_planes(cast(Planes, tuple(GpuPlane(plane, shape) for plane, shape in pairs)))


def test_planes_are_passed_on_by_dlpack(clip: Path) -> None:
    with VideoReader(clip, pixels="nv12") as video:
        frame = next(video.frames())
    for plane, array in zip(in_host_memory(frame).planes, frame.planes, strict=True):
        assert (plane.shape, plane.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(np.from_dlpack(plane), array)
        for in_order in (None, -1, 1):
            assert cast(Any, plane).__dlpack__(stream=in_order)
        with pytest.raises(BufferError, match="stream = 7; let it wait for CUDA's default stream"):
            cast(Any, plane).__dlpack__(stream=7)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_planes_that_are_no_arrays_are_encoded_as_arrays_are(clip: Path, tmp_path: Path, pixel_format: Any) -> None:
    encode = EncodeOptions(pixel_format=pixel_format)
    written = []
    for passed in (lambda frame: frame, in_host_memory):
        output = tmp_path / f"{len(written)}.mp4"
        with VideoReader(clip, pixels="nv12") as video:
            options: Any = {"source_path": None, "form": video.form, "encode": encode, "on_device": True}
            with VideoWriter(output, source=video.info, **options) as sink:
                for frame in video.frames():
                    sink.write(passed(frame))
        written.append(output.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(("pixels", "height"), [("i420", 48), ("rgb", 48), ("nv12", 49)])
def test_planes_on_the_gpu_must_be_nv12_of_even_size(pixels: Any, height: int) -> None:
    form = FrameFormat(height=height, width=64, pixels=pixels)
    planes = tuple(GpuPlane(VideoFrame(64, 48, "nv12").planes[0], shape) for shape in form.plane_shapes)
    writer = PlaneWriter(form, "yuv420p", form.size, form.size)
    with pytest.raises(BadOption, match=f"frames on the GPU are {pixels} of 64x{height}"):
        writer.write(Frame(cast(Planes, planes), form, 0, Fraction(1, 25)), 0, Fraction(1, 25))


@without_gpu
@pytest.mark.parametrize("codec", list(NVENC_ENCODERS))
def test_nvenc_by_name_needs_a_gpu(clip: Path, tmp_path: Path, codec: Codec, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.mp4"
    sentence = f"{codec}_nvenc cannot .* 320x180 yuv420p: .* no NVIDIA driver; .* software, by {ENCODERS[codec].name}"
    with pytest.raises(VideoError, match=sentence):
        copy(clip, output, encode=EncodeOptions(codec=codec, encoder="nvenc"))
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]
    assert capfd.readouterr() == ("", "")


@without_gpu
def test_automatic_encoding_falls_back_and_says_why(clip: Path, tmp_path: Path) -> None:
    (note,) = copy(clip, tmp_path / "auto.mp4", encode=EncodeOptions(encoder="auto"))
    assert note.startswith("NVENC is not used, libx264 encodes: ") and "no NVIDIA driver" in note
    assert copy(clip, tmp_path / "software.mp4") == []
    assert (tmp_path / "auto.mp4").read_bytes() == (tmp_path / "software.mp4").read_bytes()


def test_what_nvenc_does_not_write_is_written_in_software(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="NVENC does not write vp9"):
        copy(clip, tmp_path / "out.webm", encode=EncodeOptions(encoder="nvenc"))
    (note,) = copy(clip, tmp_path / "out.webm", encode=EncodeOptions(encoder="auto"))
    assert "libvpx-vp9 encodes: NVENC does not write vp9" in note


def test_options_of_another_encoder_are_refused_or_choose_it(clip: Path, tmp_path: Path) -> None:
    output, wrong = tmp_path / "out.mp4", "preset is 'veryfast'; h264_nvenc has p1, p2"
    with pytest.raises(BadOption, match=wrong):
        copy(clip, output, encode=EncodeOptions(encoder="nvenc", preset="veryfast"))
    with pytest.raises(BadOption, match="crf is 52; hevc_nvenc takes 0 to 51"):
        copy(clip, output, encode=EncodeOptions(encoder="nvenc", codec="hevc", crf=52))
    (note,) = copy(clip, output, encode=EncodeOptions(encoder="auto", preset="veryfast"))
    assert f"libx264 encodes: {wrong}" in note
    with pytest.raises(BadOption, match="decoder is 'cuda'"):
        ClipOptions(decoder=cast(Any, "cuda"))
    with pytest.raises(BadOption, match="encoder is 'h264_nvenc'"):
        EncodeOptions(encoder=cast(Any, "h264_nvenc"))


@pytest.mark.parametrize(
    ("codec", "options", "quantizer", "preset"),
    [
        ("h264", {}, "22", "p4"),
        ("hevc", {}, "25", "p4"),
        ("av1", {}, "128", "p4"),
        ("h264", {"crf": 0, "preset": "p7"}, "0", "p7"),
        ("av1", {"crf": 63, "preset": "p1"}, "252", "p1"),
    ],
)
def test_quality_and_speed_are_put_in_nvencs_terms(
    codec: Codec, options: dict[str, Any], quantizer: str, preset: str
) -> None:
    encoder = NVENC_ENCODERS[codec]
    settings = encoder.settings(EncodeOptions(**options))
    assert settings == {"rc": "constqp", "qp": quantizer, "preset": preset, "bf": "0"}
    known = {option.name: option for option in CodecContext.create(encoder.name, "w").supported_options.private}
    assert settings["rc"] in {choice.name for choice in known["rc"].choices}
    assert set(encoder.presets) <= {choice.name for choice in known["preset"].choices}
    assert int(quantizer) <= known["qp"].max
    assert "gpu" in known


@pytest.mark.needs_cuda
def test_the_gpu_opens_for_video() -> None:
    VideoGpu(0, shared=False)
    VideoGpu(None, shared=True)
    with pytest.raises(VideoError, match="FFmpeg cannot use this GPU: .*GPUs here: 0 "):
        VideoGpu(900, shared=False)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("pixels", ["i420", "nv12", "rgb"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_nvdec_gives_the_frames_that_software_gives(tmp_path: Path, codec: str, pixels: Any) -> None:
    options = {"libx264": REORDERED, "libx265": {"x265-params": "log-level=none"}}.get(codec, {})
    path = make_video(
        tmp_path / "in.mkv", codec=codec, size=(180, 320), pts=VFR, time_base=Fraction(1, 1000), options=options
    )
    with VideoReader(path, pixels=pixels, clip=NVDEC) as gpu, VideoReader(path, pixels=pixels) as cpu:
        assert (gpu.decoder, gpu.notes) == ("nvdec", [])
        found, expected = list(gpu.frames()), list(cpu.frames())
        assert [(f.pts, f.duration) for f in found] == [(f.pts, f.duration) for f in expected]
        assert len(found) == len(VFR)
        assert (gpu.lost, gpu.errors) == (0, [])
        for a, b in zip(found, expected, strict=True):
            assert all(psnr(p, q) >= 50 for p, q in zip(a.planes, b.planes, strict=True))


@pytest.mark.needs_cuda
def test_nvdec_decodes_a_part_of_a_turned_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", size=(180, 320), frames=40, rotation=90, options=REORDERED)
    found = frames_of(path, clip=ClipOptions(start=0.5, end=1.2, decoder="nvdec"))
    assert found == frames_of(path, clip=ClipOptions(start=0.5, end=1.2))
    assert 10 < len(found) < 20


def downloaded(frame: Frame) -> VideoFrame:
    return on_host(GpuFrames().frame(frame))


@pytest.mark.needs_cuda
@pytest.mark.parametrize("size", [(180, 320), (256, 256)])
def test_frames_on_the_gpu_are_those_of_the_file(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make_video(tmp_path / "in.mp4", size=size, pts=VFR, time_base=Fraction(1, 1000), options=REORDERED)
    with VideoReader(path, pixels="nv12", clip=NVDEC, on_device=True) as gpu, VideoReader(path) as cpu:
        assert (gpu.decoder, gpu.on_device, gpu.notes) == ("nvdec", True, [])
        found, expected = list(gpu.frames()), list(cpu.frames())
        assert [f.pts for f in found] == [f.pts for f in expected] == list(VFR)
        for a, b in zip(found, expected, strict=True):
            assert tuple(p.shape for p in a.planes) == a.form.plane_shapes
            picture = downloaded(a)
            views = [plane_view(p, s) for p, s in zip(picture.planes, b.form.plane_shapes, strict=True)]
            assert all(psnr(p, q) >= 50 for p, q in zip(views, b.planes, strict=True))


@pytest.mark.needs_cuda
def test_frames_on_the_gpu_outlive_their_source(clip: Path) -> None:
    frames = read(clip, pixels="nv12", clip=NVDEC, on_device=True)
    first = downloaded(frames[0]).to_ndarray()
    assert first.std() > 5
    assert not np.array_equal(first, downloaded(frames[-1]).to_ndarray())


@pytest.mark.needs_cuda
def test_a_software_encoder_takes_frames_from_the_gpu(clip: Path, tmp_path: Path) -> None:
    assert copy(clip, tmp_path / "gpu.mp4", pixels="nv12", clip=NVDEC, on_device=True) == []
    copy(clip, tmp_path / "cpu.mp4", pixels="nv12")
    assert (tmp_path / "gpu.mp4").read_bytes() == (tmp_path / "cpu.mp4").read_bytes()


@pytest.mark.needs_cuda
@pytest.mark.parametrize("size", [(180, 320), (256, 256)])  # the planes of the first lie apart
@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("codec", list(NVENC_ENCODERS))
def test_nvenc_writes_every_frame_at_its_time(
    tmp_path: Path, codec: Codec, on_device: bool, size: tuple[int, int]
) -> None:
    encode = EncodeOptions(codec=codec, crf=10, encoder="nvenc")
    obstacle = nvenc_obstacle(codec, encode, size, None)
    if obstacle is not None:
        pytest.skip(obstacle)
    path = make_video(
        tmp_path / "in.mp4",
        size=size,
        pts=VFR,
        time_base=Fraction(1, 1000),
        options=REORDERED,
        smooth=True,
        color={"colorspace": 6, "color_primaries": 6, "color_trc": 6, "color_range": 1},
    )
    output = tmp_path / "out.mp4"
    assert copy(path, output, encode=encode, pixels="nv12", clip=NVDEC, on_device=on_device) == []
    made, source = read_contents(output), read_contents(path)
    assert (made.pts, made.codecs[0]) == (source.pts, codec)
    assert all(psnr(a, b) >= 35 for a, b in zip(read_rgb(output), read_rgb(path), strict=True))
    with VideoReader(output) as written, VideoReader(path) as read:
        assert written.info.color.matrix == read.info.color.matrix == 6
        assert (written.info.color.range, written.info.color.primaries) == (1, 6)


@pytest.mark.needs_cuda
def test_nvenc_reads_a_picture_in_one_piece_where_it_lies(tmp_path: Path) -> None:
    apart = {}
    for size in ((180, 320), (256, 256)):
        path = make_video(tmp_path / f"{size[0]}.mp4", size=size, options=REORDERED)
        with VideoReader(path, pixels="nv12", clip=NVDEC, on_device=True) as video:
            made = GpuFrames().frame(next(video.frames()))
            apart[size] = not is_in_one_piece(made)
            assert not is_in_one_piece(on_host(made))
    assert apart == {(180, 320): True, (256, 256): False}
