"""Pictures and sound that show whether they are in step: each second begins with a flash and a beep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from vidstyle.frame import Frame, FrameFormat
from vidstyle.video.audio import AudioChunk, AudioFormat
from vidstyle.video.output.recorder import Recorder

FORM = FrameFormat(height=90, width=160, pixels="i420", matrix="bt601")
STEREO = AudioFormat(48000, 2)
CLOCK = 5_000_000_000
"""Where the capture clock of made-up times begins, in microseconds."""
FLASH = 0.2
DARK, BRIGHT = 40, 220


def now() -> int:
    """The capture clock."""
    return time.monotonic_ns() // 1000


def frame(pts: int, *, seconds: float | None = None, form: FrameFormat = FORM) -> Frame:
    """A frame of time ``pts`` that is bright at the beginning of each second of ``seconds``."""
    luma = BRIGHT if seconds is not None and seconds % 1 < FLASH else DARK
    planes = [np.full(shape, 128, np.uint8) for shape in form.plane_shapes]
    planes[0][:] = luma
    # Something that moves, so that frames differ and cost something.
    planes[0].reshape(-1)[pts // 1000 % 1000 :: 1000] = 130
    return Frame(tuple(planes), form, pts, Fraction(1, 1_000_000))


def beep(pts: int, start: int, count: int, form: AudioFormat = STEREO) -> AudioChunk:
    """Samples ``start`` to ``start + count`` of a tone that is heard at the beginning of each second."""
    places = np.arange(start, start + count)
    heard = places / form.rate % 1 < FLASH
    wave = (0.5 * np.sin(places * 2 * np.pi * 1000 / form.rate) * heard).astype(np.float32)
    return AudioChunk(np.repeat(wave[None], form.channels, axis=0), form, pts)


def feed(
    broadcast: Recorder,
    seconds: float,
    *,
    fps: float = 30,
    sound: AudioFormat | None = STEREO,
    late: float = 0.1,
    until: Callable[[], object] = lambda: False,
) -> int:
    """Write frames (``late`` seconds after they were taken) and sound in real time; how many frames.

    It ends after ``seconds``, or when ``until`` says so.
    """
    begin, frames, samples = now(), 0, 0
    while (elapsed := (now() - begin) / 1e6) < seconds and not until():
        while sound is not None and (samples + sound.rate // 50) / sound.rate <= elapsed:
            pts = begin + samples * 1_000_000 // sound.rate
            broadcast.sound(beep(pts, samples, sound.rate // 50, sound))
            samples += sound.rate // 50
        if frames / fps + late <= elapsed:
            broadcast.write(frame(begin + round(frames / fps * 1e6), seconds=frames / fps))
            frames += 1
        time.sleep(0.004)
    return frames


@dataclass
class Received:
    """What a player made of it."""

    times: list[float] = field(default_factory=list)
    """Of each frame, in seconds."""
    luma: list[float] = field(default_factory=list)
    """Mean luma of each frame."""
    key_times: list[float] = field(default_factory=list)
    sound: list[tuple[float, Any]] = field(default_factory=list)
    """Time and samples, float32 of shape (channels, n), of each piece."""
    duration: float | None = None
    color: tuple[int, int] = (0, 0)
    """Matrix and range, by number."""
    size: tuple[int, int] = (0, 0)
    error: str = ""

    @property
    def sound_seconds(self) -> float:
        """Where the sound ends."""
        return self.sound[-1][0] + self.sound[-1][1].shape[1] / 48000 if self.sound else 0.0

    def flashes(self) -> list[float]:
        """When the picture became bright."""
        bright = [value > (DARK + BRIGHT) / 2 for value in self.luma]
        return [t for t, was, is_ in zip(self.times[1:], bright, bright[1:], strict=False) if is_ and not was]

    def beeps(self, rate: int = 48000) -> list[float]:
        """When the tone began."""
        found: list[float] = []
        silent = rate
        for begin, samples in self.sound:
            for place in range(0, samples.shape[1], 48):
                if np.abs(samples[0, place : place + 48]).max() > 0.15:
                    if silent > rate // 4:
                        found.append(begin + place / rate)
                    silent = 0
                else:
                    silent += 48
        return found


def receive(container: Any, *, frames: int | None = None) -> Iterator[Received]:
    """Decode ``container`` to its end, or some frames; yields what came so far after each packet."""
    made = Received()
    video = container.streams.video[0]
    video.codec_context.thread_count = 1
    if container.duration:
        made.duration = container.duration / 1e6
    try:
        for packet in container.demux():
            for item in packet.decode():
                if item.pts is None:
                    continue
                if isinstance(item, av.VideoFrame):
                    made.times.append(item.time)
                    luma = np.frombuffer(item.planes[0], np.uint8).reshape(-1, item.planes[0].line_size)
                    made.luma.append(float(luma[: item.height, : item.width].mean()))
                    made.size = item.height, item.width
                    made.color = int(item.colorspace), int(item.color_range)
                    if item.key_frame:
                        made.key_times.append(item.time)
                elif isinstance(item, av.AudioFrame):
                    made.sound.append((item.time, item.to_ndarray()))
            yield made
            if frames is not None and len(made.times) >= frames:
                return
    except (av.error.FFmpegError, OSError) as error:
        made.error = str(error)
        yield made


def play(source: Path | str, **options: Any) -> Received:
    """All of a file."""
    with av.open(str(source), **options) as container:
        return list(receive(container))[-1]
