"""The clip of numbered frames that is played to ``vidstyle webcam``."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
from clips import FILM, film_frames
from stamped import HEIGHT, NUMBERS, STRIP, WIDTH, stamp

RATE = 30


def make_stamped_clip(path: Path, frames: int, *, still: bool = False, film: Path = FILM) -> Path:
    """Write ``frames`` numbered frames of ``film``, 640x360 at 30 fps, to ``path``, unless it is there.

    ``still``: the same picture and number each time, and nothing lost in coding.
    """
    if frames > NUMBERS:
        raise ValueError(f"{frames = }; there are numbers for {NUMBERS}")
    if path.exists():
        return path
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    pictures = film_frames(film, WIDTH, HEIGHT)
    quality = {"qp": "0", "preset": "ultrafast"} if still else {"crf": "20", "preset": "medium"}
    planes = next(pictures).to_ndarray()
    with av.open(str(part), "w", format="mp4") as output:
        stream = output.add_stream("libx264", RATE, options=quality)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            if not still and number:
                planes = next(pictures).to_ndarray()
            stamp(planes[:HEIGHT], 0 if still else number)
            chroma = planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
            chroma[:, -STRIP // 2 :] = 128
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    os.replace(part, path)
    return path
