"""The clips that the benchmarks render: a real film, looped and scaled, H.264 at a usual quality."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame

FILM = Path(__file__).parent.parent / "examples" / "bunny.mp4"
CRF, PRESET, RATE = 23, "medium", 25


def film_frames(path: Path, width: int, height: int) -> Iterator[VideoFrame]:
    """Every frame of ``path`` at the given size, then all of it again, for ever."""
    while True:
        with av.open(str(path)) as film:
            for frame in film.decode(video=0):
                yield frame.reformat(width, height, "yuv420p", interpolation="LANCZOS")


def make_clip(path: Path, width: int, height: int, seconds: float, film: Path = FILM) -> Path:
    """Write ``seconds`` of ``film`` at ``width`` x ``height`` to ``path``, unless it is there; gives ``path`` back."""
    if path.exists():
        return path
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    frames = film_frames(film, width, height)
    with av.open(str(part), "w", format="mp4") as output:
        stream = output.add_stream("libx264", RATE, options={"crf": str(CRF), "preset": PRESET})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(round(seconds * RATE)):
            frame = next(frames)
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            # Otherwise the encoder would put a key frame wherever the film had one.
            frame.pict_type = 0
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    os.replace(part, path)
    return path


def clip_name(width: int, height: int, seconds: float) -> str:
    """The file name that says what is in it."""
    return f"bunny-{width}x{height}-{seconds:g}s.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["640x360", "1280x720", "1920x1080"], metavar="WxH")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        name = clip_name(width, height, options.seconds)
        path = make_clip(options.folder / name, width, height, options.seconds)
        print(f"{path}: {path.stat().st_size * 8 / options.seconds / 1000:.0f} kbit/s")


if __name__ == "__main__":
    main()
