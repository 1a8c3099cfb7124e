"""Decoded sound as pieces of one form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from vidstyle.video.sound import Sound, SoundForm

RATE = 48_000
"""Samples a second of every live sound."""
_GAP = 0.04
"""Seconds by which two pieces may miss each other before the times are believed more than the samples."""


def sound_form(stream: AudioStream) -> SoundForm:
    """The form that sound of ``stream`` is brought to: mono stays mono, everything else becomes stereo."""
    return SoundForm(RATE, 1 if stream.codec_context.layout.nb_channels == 1 else 2)


class SoundReader:
    """Turns a decoder's frames into samples of ``form``. One reader serves one stream and one thread."""

    def __init__(self, form: SoundForm) -> None:
        self.form = form
        self._resampler: AudioResampler | None = None
        self._made_for: tuple[str, str, int] | None = None

    def read(self, frame: AudioFrame) -> Iterator[tuple[NDArray[np.float32], float]]:
        """Pieces of float32 of shape (channels, n) and their times in seconds of the stream."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        made: list[AudioFrame] = []
        if kind != self._made_for:  # a resampler that had nothing to do would pass another form on as it is
            made = [] if self._resampler is None else [piece for piece in self._resampler.resample(None) if piece]
            self._resampler, self._made_for = self._new(), kind
        assert self._resampler is not None
        for piece in (*made, *self._resampler.resample(frame)):
            if piece.pts is not None and piece.time_base and piece.samples:
                samples = np.clip(np.asarray(piece.to_ndarray(), np.float32), -1.0, 1.0)
                yield samples, float(piece.pts * piece.time_base)

    def _new(self) -> AudioResampler:
        return AudioResampler("fltp", "mono" if self.form.channels == 1 else "stereo", self.form.rate)


class SoundJoiner:
    """Gives pieces of sound times that join up, as long as that is true to the clock."""

    def __init__(self, form: SoundForm) -> None:
        self._form = form
        self._next: float | None = None

    def join(self, samples: NDArray[np.float32], at: int) -> Sound:
        """The piece that the clock says begins ``at``."""
        begin = float(at)
        if self._next is not None and abs(self._next - at) < _GAP * 1e6:
            begin = self._next
        self._next = begin + samples.shape[1] / self._form.rate * 1e6
        return Sound(samples, self._form, round(begin))
