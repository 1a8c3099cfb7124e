"""What masks cost, and how steady the edge of a person is.

    python benchmarks/masks.py [--rounds 5] [--clip VIDEO] [--look PICTURE] [--name epyc-2cores]

The clip is made: the astronaut of the photo that ships, cut out, sways before another photo, with the noise of a
sensor. Renders with and without a mask take turns. E_warp (Lai and others 2018) is that of the mask, as a picture of
0-1, along the motion of the clip; `alone` is the mask of each frame by itself. ``--look`` writes three masked frames.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from flicker import judged_motion, mean_warping_error
from measured import RESULTS, ResultFile, machine
from numpy.typing import NDArray

from vidstyle.data import PHOTOS
from vidstyle.frame import Frame, FrameFormat
from vidstyle.imaging.image_io import read_still
from vidstyle.masks.person import PersonMask
from vidstyle.options import BackendOptions, EncodeOptions, LookOptions
from vidstyle.rendering import render
from vidstyle.stylizer import Stylizer
from vidstyle.video.reader import VideoReader

SIZE = (360, 640)
RATE = 25
NOISE = 3.0
"""Standard deviation of the sensor's noise, in levels."""
U8 = NDArray[np.uint8]


def made_frames(count: int) -> Iterator[U8]:
    """A person who sways before a wall with pictures; RGB (360, 640, 3)."""
    chance = np.random.default_rng(0)
    person = read_still(PHOTOS / "astronaut.jpg").rgb
    form = FrameFormat(height=person.shape[0], width=person.shape[1])
    with PersonMask(form) as mask:
        alpha = mask.at(Frame((person,), form, 0, Fraction(1))).astype(np.float32) / 255
    behind = np.asarray(cv2.resize(read_still(PHOTOS / "china.jpg").rgb, SIZE[::-1], interpolation=cv2.INTER_AREA))
    layer = np.dstack([person.astype(np.float32) * alpha[..., None], alpha])
    for number in range(count):
        turn = 2 * np.pi * number / 50
        move = cv2.getRotationMatrix2D((180, 360), 2 * np.sin(turn), 1.0 + 0.03 * np.sin(turn / 2))
        move[:, 2] += 140 + 40 * np.sin(turn), 6 * np.sin(2 * turn)
        moved = cv2.warpAffine(layer, move, SIZE[::-1], flags=cv2.INTER_LINEAR)
        rgb = moved[..., :3] + behind * (1 - moved[..., 3:])
        yield np.clip(rgb + chance.normal(0, NOISE, rgb.shape), 0, 255).astype(np.uint8)


def write_clip(path: Path, seconds: float) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", RATE, options={"crf": "18", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for rgb in made_frames(round(seconds * RATE)):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb)))
        output.mux(stream.encode(None))


def frames_of(path: Path, pixels: str, count: int) -> list[Frame]:
    with VideoReader(path, pixels=pixels) as video:  # type: ignore[arg-type]
        found = []
        for frame in video.frames():
            planes = frame.with_planes(tuple(np.array(plane) for plane in frame.planes))
            found.append(planes)
            if len(found) == count:
                break
    return found


def cost(frames: list[Frame], rounds: int) -> dict[str, float]:
    """Milliseconds a frame of the mask alone: processor time of all threads, and the least of each frame's."""
    with PersonMask(frames[0].form, BackendOptions()) as mask:
        for frame in frames[:10]:
            mask.at(frame)
        cpu, wall = [], []
        for _ in range(rounds):
            began = time.process_time()
            for frame in frames:
                start = time.perf_counter()
                mask.at(frame)
                wall.append(1000 * (time.perf_counter() - start))
            cpu.append(1000 * (time.process_time() - began) / len(frames))
    return {"cpu_ms": min(cpu), "wall_ms": float(np.percentile(wall, 10)), "median_ms": statistics.median(wall)}


def steadiness(path: Path, count: int) -> dict[str, float]:
    """E_warp of the mask, of each frame alone and as it is; and of the clip."""
    frames, rgb = frames_of(path, "i420", count), [frame.planes[0] for frame in frames_of(path, "rgb", count)]
    motions = [judged_motion(a, b) for a, b in zip(rgb, rgb[1:], strict=False)]
    found = {"clip": mean_warping_error(rgb, motions)}
    for name in ("alone", "steady"):
        masks = []
        with PersonMask(frames[0].form) as mask:
            for frame in frames:
                if name == "alone":
                    mask.reset()
                masks.append(np.repeat(mask.at(frame)[..., None], 3, axis=2))
        found[name] = mean_warping_error(masks, motions)
    return found


def speeds(path: Path, folder: Path, mask_file: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Frames a second of a render, and its processor time a frame, without and with masks, in turn."""
    looks = {"no mask": LookOptions(), "person": LookOptions(mask="person"), "file": LookOptions(mask=str(mask_file))}
    fps: dict[str, list[float]] = {name: [] for name in looks}
    cpu: dict[str, list[float]] = {name: [] for name in looks}
    for _ in range(rounds + 1):
        for name, look in looks.items():
            began: list[float] = []
            report = render(
                path,
                folder / "out.mp4",
                "starry_night",
                look=look,
                encode=EncodeOptions(),
                overwrite=True,
                on_start=lambda _, began=began: began.append(time.process_time()),  # type: ignore[misc]
            )
            fps[name].append(report.fps)
            cpu[name].append(1000 * (time.process_time() - began[0]) / report.frames)
    return {  # the first round warms the caches
        name: {"fps": statistics.median(fps[name][1:]), "best_fps": max(fps[name][1:]), "cpu_ms": min(cpu[name][1:])}
        for name in looks
    }


def write_look(path: Path, picture: Path, style: str) -> None:
    """Three frames of the clip under the mask of the person, side by side."""
    frames = [frame.planes[0] for frame in frames_of(path, "rgb", 41)]
    shown = []
    for look in (LookOptions(mask="person"), LookOptions(mask="background")):
        with Stylizer(style, look=look) as stylizer:
            shown.append(stylizer(frames[40]))
    cv2.imwrite(str(picture), np.hstack([frames[40], *shown])[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--clip", type=Path, help="measure steadiness on this video, too; nothing of it is kept")
    parser.add_argument("--look", type=Path, help="write a picture of masked frames, and measure nothing")
    parser.add_argument("--style", default="the_scream", help="of that picture")
    parser.add_argument("--name", default="epyc-2cores", help="folder of the results")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, mask_file = folder / "clip.mp4", folder / "mask.png"
        write_clip(clip, words.seconds)
        if words.look is not None:
            write_look(clip, words.look, words.style)
            return
        cv2.imwrite(str(mask_file), np.tile(np.linspace(0, 255, SIZE[1], dtype=np.uint8), (SIZE[0], 1)))
        facts = {
            "rounds": words.rounds,
            "mask": cost(frames_of(clip, "i420", 60), words.rounds),
            "ewarp": steadiness(clip, 60),
            "renders": speeds(clip, folder, mask_file, words.rounds),
        }
        if words.clip is not None:
            print("on", words.clip.name, steadiness(words.clip, 60))
    (RESULTS / words.name).mkdir(parents=True, exist_ok=True)
    kept = ResultFile("masks", RESULTS / words.name)
    kept.put("masks", "640x360", facts)
    kept.put("machine", "masks", machine())
    print(facts)


if __name__ == "__main__":
    main()
