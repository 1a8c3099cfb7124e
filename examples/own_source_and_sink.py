"""Feed frames of your own and take the stylized ones: no file, no codec."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from vidstyle import Frame, FrameFormat, Stylizer, stylize_stream

FORM = FrameFormat(height=240, width=320, pixels="rgb")


def drifting_dots(frames: int = 30) -> Iterator[Frame]:
    """A picture that moves, as a camera or a renderer would give it."""
    generator = np.random.default_rng(7)
    dots = generator.integers(0, 255, (240, 320, 3), dtype=np.uint8)
    for pts in range(frames):
        yield Frame((np.roll(dots, pts, axis=1),), FORM, pts, Fraction(1, 30))


brightness: list[float] = []
with Stylizer("starry_night") as stylizer:
    seconds = stylize_stream(stylizer, drifting_dots(), lambda frame: brightness.append(float(frame.planes[0].mean())))
print(f"{len(brightness)} frames, brightness {min(brightness):.0f} to {max(brightness):.0f}")
print(f"seconds at work: source {seconds.decode:.2f}, network {seconds.infer:.2f}, sink {seconds.encode:.2f}")
