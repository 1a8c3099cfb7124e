"""Stills: real files, all orientations, alpha, hostile input, folders."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vidstyle.errors import BadOption, ImageError
from vidstyle.imaging.image_io import (
    Still,
    check_output,
    decode_still,
    encode_still,
    exif_orientation,
    fit_still,
    read_header,
    read_still,
    write_still,
)

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".PNG"]


def picture(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Smooth RGB with four different corners, so that a codec keeps it and a turn shows."""
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    return (np.stack([x, y, x * y], -1) * 220 + 20).astype(np.uint8)


def exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x112, 3, 1, orientation, 0)
    return mark + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


def jpeg_with_exif(rgb: NDArray[np.uint8], block: bytes) -> bytes:
    return saved(Image.fromarray(rgb), "JPEG", exif=b"Exif\0\0" + block, quality=95)


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(size: tuple[int, int], bits: int, color: int, rows: Iterable[bytes], *chunks: bytes) -> bytes:
    """A hand-written PNG; ``size`` is (height, width), ``color`` the PNG color type."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], bits, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return PNG_MAGIC + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def tiff(rgb: NDArray[np.uint8], orientation: int) -> bytes:
    return saved(Image.fromarray(rgb), "TIFF", tiffinfo={274: orientation})


def rgb_profile(space: bytes = b"RGB ") -> bytes:
    """A small ICC profile with what libpng looks for: a matrix profile with a white point."""
    white = b"XYZ " + bytes(4) + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    tags = struct.pack(">I", 1) + b"wtpt" + struct.pack(">II", 144, len(white))
    header = struct.pack(">I", 144 + len(white)) + bytes(4) + struct.pack(">I", 0x02400000) + b"mntr" + space + b"XYZ "
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + tags + white


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_survives_being_written_and_read(tmp_path: Path, suffix: str) -> None:
    rgb = picture(37, 51)  # odd sides
    notes = write_still(tmp_path / f"a{suffix}", Still(rgb))
    back = read_still(tmp_path / f"a{suffix}")
    assert notes == back.notes == ()
    assert back.alpha is None and back.size == (37, 51)
    lossless = suffix.lower() not in (".jpg", ".jpeg", ".webp")
    assert np.abs(back.rgb.astype(int) - rgb).max() <= (0 if lossless else 12)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]  # no temporary file left


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_exif_orientation_is_turned_upright(orientation: int, order: str) -> None:
    data = jpeg_with_exif(picture(), exif(orientation, order))
    still = decode_still(data)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)  # OpenCV's own turning
    assert still.size == ((48, 64) if orientation < 5 else (64, 48))
    assert np.array_equal(still.rgb, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_png_webp_and_tiff_turn_like_jpeg(orientation: int) -> None:
    rgb = picture()
    upright = decode_still(jpeg_with_exif(rgb, exif(orientation))).rgb.astype(int)
    rows = [row.tobytes() for row in rgb]
    turned_png = png((48, 64), 8, 2, rows, chunk(b"eXIf", exif(orientation)))
    block = np.frombuffer(exif(orientation), np.uint8)
    turned_webp = cv2.imencodeWithMetadata(".webp", rgb[:, :, ::-1].copy(), [cv2.IMAGE_METADATA_EXIF], [block])[1]
    for data in (turned_png, turned_webp.tobytes(), tiff(rgb, orientation)):
        assert np.abs(decode_still(data).rgb - upright).mean() < 4


def test_the_output_carries_no_orientation() -> None:
    still = decode_still(jpeg_with_exif(picture(), exif(6)))
    for suffix in (".jpg", ".png", ".webp", ".tiff"):
        data = encode_still(still, suffix)
        assert b"Exif" not in data and b"eXIf" not in data
        assert decode_still(data).size == still.size == (64, 48)


@pytest.mark.parametrize("block", [b"", b"II*\0", exif(9), exif(0), exif(6)[:12], b"garbage!" * 4])
def test_a_damaged_exif_block_leaves_the_picture_readable(block: bytes) -> None:
    assert exif_orientation(block) == 1
    assert decode_still(jpeg_with_exif(picture(), block)).size == (48, 64)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_alpha_survives(suffix: str) -> None:
    alpha = np.linspace(0, 255, 48 * 64).reshape(48, 64).astype(np.uint8)
    still = fit_still(Still(picture(), alpha), suffix)
    back = decode_still(encode_still(still, suffix))
    assert still.notes == ()
    assert back.alpha is not None and np.array_equal(back.alpha, alpha)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_that_a_format_cannot_hold_is_laid_on_white_and_told(tmp_path: Path, suffix: str) -> None:
    alpha = np.zeros((48, 64), np.uint8)
    alpha[:24] = 255
    notes = write_still(tmp_path / f"a{suffix}", Still(picture(), alpha, name="logo.png"))
    back = read_still(tmp_path / f"a{suffix}")
    assert len(notes) == 1 and "logo.png" in notes[0] and "transparency" in notes[0]
    assert back.alpha is None and (back.rgb[40] >= 250).all()
    assert np.abs(back.rgb[8].astype(int) - picture()[8]).max() <= 12


def test_opaque_alpha_is_dropped_without_a_word() -> None:
    still = fit_still(Still(picture(), np.full((48, 64), 255, np.uint8)), ".jpg")
    assert still.alpha is None and still.notes == () and np.array_equal(still.rgb, picture())


def test_sixteen_bits_become_eight_and_are_told() -> None:
    deep = (picture().astype(np.uint16) * 257)[:, :, ::-1].copy()
    for suffix in (".png", ".tiff"):
        still = decode_still(cv2.imencode(suffix, deep)[1].tobytes(), "deep")
        assert np.array_equal(still.rgb, picture())
        assert still.notes == ("deep has 16 bits a channel; 8 are used",)


def test_gray_palette_and_keyed_pngs_become_rgb_with_alpha() -> None:
    def pixels(*arguments: object) -> list[list[int]]:
        still = decode_still(png((1, 2), *arguments))  # type: ignore[arg-type]
        alpha = np.full((1, 2), -1) if still.alpha is None else still.alpha
        return np.dstack([still.rgb.astype(int), alpha])[0].tolist()

    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0]))
    assert pixels(8, 0, [bytes([7, 200])]) == [[7, 7, 7, -1], [200, 200, 200, -1]]
    assert pixels(1, 0, [b"\x40"]) == [[0, 0, 0, -1], [255, 255, 255, -1]]
    assert pixels(8, 4, [bytes([10, 128, 20, 255])]) == [[10, 10, 10, 128], [20, 20, 20, 255]]
    assert pixels(16, 4, [bytes([10, 10, 128, 128, 20, 20, 255, 255])]) == [[10, 10, 10, 128], [20, 20, 20, 255]]
    assert pixels(8, 3, [b"\0\1"], palette) == [[255, 0, 0, -1], [0, 255, 0, -1]]
    assert pixels(8, 3, [b"\0\1"], palette, chunk(b"tRNS", b"\x40")) == [[255, 0, 0, 64], [0, 255, 0, 255]]
    rgb_key = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    assert pixels(8, 2, [bytes([1, 2, 3, 4, 5, 6])], rgb_key) == [[1, 2, 3, 0], [4, 5, 6, 255]]
    gray_key = chunk(b"tRNS", struct.pack(">H", 3))
    assert pixels(8, 0, [bytes([3, 4])], gray_key) == [[3, 3, 3, 0], [4, 4, 4, 255]]
    assert pixels(2, 0, [b"\xd0"], gray_key) == [[255, 255, 255, 0], [85, 85, 85, 255]]


@pytest.mark.parametrize(
    ("cmyk", "rgb"),
    [((0, 0, 0, 0), (255, 255, 255)), ((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))],
)
def test_cmyk_jpegs_show_their_colors(cmyk: tuple[int, int, int, int], rgb: tuple[int, int, int]) -> None:
    data = saved(Image.new("CMYK", (8, 8), cmyk), "JPEG")
    assert np.abs(decode_still(data).rgb.astype(int) - rgb).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_an_rgb_profile_is_passed_on(suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode_still(Still(picture(), profile=rgb_profile()), suffix)
    assert decode_still(data).profile == rgb_profile()
    assert capfd.readouterr().err == ""


def test_a_profile_that_cannot_be_kept_is_told() -> None:
    still = fit_still(Still(picture(), profile=rgb_profile(), name="p3.png"), ".bmp")
    assert still.profile is None and len(still.notes) == 1 and "color profile" in still.notes[0]


@pytest.mark.parametrize("profile", [b"ABCD" * 40, b"x", rgb_profile(b"CMYK"), rgb_profile()[:-1], b""])
def test_a_profile_that_does_not_fit_is_left_out_silently(profile: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    body = chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))
    still = decode_still(png((1, 2), 8, 2, [bytes(6)], body))
    assert still.profile is None
    assert decode_still(png((1, 2), 8, 2, [bytes(6)], chunk(b"iCCP", b"name\0\0notzlib"))).profile is None
    assert capfd.readouterr().err == ""


def test_only_the_first_picture_of_an_animation_is_used() -> None:
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    first = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 2, 1, 0, 0, 1, 10, 0, 0))
    still = decode_still(png((1, 2), 8, 2, [bytes([1, 2, 3, 4, 5, 6])], control, first), "moving.png")
    assert still.rgb.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert still.notes == ("moving.png is animated; only its first picture is used",)


def test_further_pages_of_a_tiff_are_told() -> None:
    _, data = cv2.imencodemulti(".tif", [picture()[:, :, ::-1]] * 2)
    (note,) = decode_still(data.tobytes(), "fax.tif").notes
    assert note == "fax.tif has several pages; only its first picture is used"


def test_a_tiff_of_a_kind_that_cannot_be_read_is_named() -> None:
    cmyk = bytearray(tiff(picture(), 1))
    at = cmyk.index(struct.pack("<HHI", 262, 3, 1))
    cmyk[at + 8 : at + 10] = struct.pack("<H", 5)
    with pytest.raises(ImageError, match=r"print\.tif is a CMYK TIFF.*PNG"):
        decode_still(bytes(cmyk), "print.tif")


def test_what_libraries_say_of_a_damaged_picture_is_a_note(capfd: pytest.CaptureFixture[str]) -> None:
    whole = cv2.imencode(".jpg", picture(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = whole.index(b"\xff\xda") + 16

    def write() -> None:
        while not done.is_set():
            os.write(2, b"another thread\n")
            time.sleep(0.001)

    done = threading.Event()
    other = threading.Thread(target=write)
    other.start()
    try:
        stills = [
            decode_still(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :], "holiday.jpg")
            for at in range(scan, scan + 40)
        ]
    finally:
        done.set()
        other.join()
    assert any("holiday.jpg is damaged in parts (Corrupt JPEG data" in note for still in stills for note in still.notes)
    assert set(capfd.readouterr().err.splitlines()) == {"another thread"}


def giants() -> dict[str, bytes]:
    """Small files that claim to be enormous."""
    huge = png((60000, 60000), 8, 6, [bytes(8)])
    jpeg = bytearray(encode_still(Still(picture()), ".jpg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    bmp = bytearray(encode_still(Still(picture()), ".bmp"))
    bmp[18:26] = struct.pack("<ii", 60000, -60000)
    canvas = (60000 - 1).to_bytes(3, "little") * 2
    webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    wide = bytearray(tiff(picture(), 1))
    struct.pack_into("<HHII", wide, wide.index(b"\0\1", 8), 256, 4, 1, 100_000)
    below_the_decoder_s_own_limit = png((30000, 30000), 8, 2, [bytes(8)])
    many_pixels = png((16000, 16000), 8, 2, [bytes(8)])
    return {
        "png": huge, "jpeg": bytes(jpeg), "bmp": bytes(bmp), "webp": webp, "tiff": bytes(wide),
        "png2": below_the_decoder_s_own_limit, "png3": many_pixels,
    }  # fmt: skip


@pytest.mark.parametrize("kind", giants())
def test_a_small_file_that_claims_to_be_enormous_is_refused_cheaply(kind: str) -> None:
    data = giants()[kind]
    assert len(data) < 20_000
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"^bomb claims \d+x\d+ pixels; at most 16384 a side and 134 million"):
            decode_still(data, "bomb")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_color_profile_cannot_be_a_bomb() -> None:
    bomb = chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(64 << 20)))
    tracemalloc.start()
    try:
        assert decode_still(png((1, 2), 8, 2, [bytes(6)], bomb)).profile is None
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_a_file_cut_anywhere_is_one_sentence(suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode_still(Still(picture()), suffix)
    for end in {1, 2, 4, 9, 17, 25, 40, len(data) // 3, len(data) // 2, len(data) - 200, len(data) - 2}:
        with pytest.raises(ImageError, match=r"^cut\.img ") as caught:
            decode_still(data[:end], "cut.img")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_a_flipped_byte_never_raises_anything_else(suffix: str) -> None:
    data = encode_still(Still(picture(), np.full((48, 64), 9, np.uint8)), suffix)
    rng = np.random.default_rng(5)
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), 2):
            damaged[at] = rng.integers(0, 256)
        try:
            still = decode_still(bytes(damaged))
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert still.rgb.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "x is empty"),
        (b"hello", "x is not a picture; vidstyle reads PNG, JPEG, WebP, BMP and TIFF pictures"),
        (b"GIF89a" + bytes(50), "x is GIF; vidstyle reads PNG, JPEG, WebP, BMP and TIFF pictures"),
        (b"\0\0\0\x1cftypavif" + bytes(50), "x is AVIF; vidstyle reads PNG, JPEG, WebP, BMP and TIFF pictures"),
        (PNG_MAGIC, "x is cut short or damaged: its header does not give a size"),
        (b"\xff\xd8\xff\xd9", "x is cut short or damaged: its header does not give a size"),
        (b"II*\0" + bytes(4) + b"\1\0", "x is cut short or damaged: its header does not give a size"),
        (png((0, 5), 8, 2, []), "x claims 5x0 pixels, which is no picture"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_still(data, "x")
    assert str(caught.value) == sentence


def test_values_that_are_no_pixels_are_refused() -> None:
    floats = cv2.imencode(".tiff", np.ones((4, 4, 3), np.float32))[1].tobytes()
    with pytest.raises(ImageError, match="holds float32 values; save it with 8 or 16 bits"):
        decode_still(floats)


def test_missing_files_folders_and_names_are_sentences(tmp_path: Path) -> None:
    there, still = tmp_path / "there.png", Still(picture())
    write_still(there, still)
    for path, words in (
        (tmp_path / "gone.png", r"^cannot read .*gone\.png: No such file"),
        (tmp_path / ("n" * 300 + ".png"), "^cannot read .*: File name too long"),
        (tmp_path, "is a folder, not a picture"),
    ):
        with pytest.raises(ImageError, match=words):
            read_still(path)
    with pytest.raises(ImageError, match=r"there\.png has more than 0 MiB"):
        read_still(there, max_bytes=50)
    with pytest.raises(BadOption, match="exists; .*--overwrite"):
        write_still(there, still)
    for name in ("a.gif", "a", ".hidden", "a.png.txt"):
        with pytest.raises(BadOption, match=r"does not end like a picture .*; use one of \.png, \.jpg"):
            write_still(tmp_path / name, still)
    with pytest.raises(BadOption, match="is the input itself"):
        check_output(there, source=there, overwrite=True)
    write_still(there, Still(picture(8, 8)), overwrite=True)
    assert read_still(there).size == (8, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["there.png"]


def test_a_pipe_is_read(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, encode_still(Still(picture(8, 8)), ".png"))
    os.close(writer)
    try:
        assert read_still(Path(f"/dev/fd/{reader}")).size == (8, 8)
    finally:
        os.close(reader)


def test_a_picture_too_large_for_a_format_is_a_sentence() -> None:
    with pytest.raises(ImageError, match="cannot write picture, 16384x1, as WEBP; try PNG"):
        encode_still(Still(np.zeros((1, 16384, 3), np.uint8)), ".webp")


def test_arrays_of_another_kind_are_refused() -> None:
    with pytest.raises(BadOption, match="must be (a )?uint8"):
        Still(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="alpha is uint8 of shape"):
        Still(picture(4, 4), np.zeros((4, 5), np.uint8))


def test_every_kind_of_jpeg_and_webp_gives_its_size() -> None:
    rgb = picture(31, 33)
    progressive, restarts = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    files = [cv2.imencode(".jpg", rgb, flags)[1].tobytes() for flags in ([], progressive, restarts)]
    files.append(files[0][:2] + b"\xff\xff\xff" + files[0][2:])  # padded
    for quality in (80, 101):  # above 100 is lossless
        for pixels in (rgb, np.dstack([rgb, rgb[:, :, :1]])):
            files.append(cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes())
    for data in files:
        header = read_header(data, "x")
        assert (header.height, header.width, header.animated) == (31, 33, False)
