"""Pieces of live sound made into one track without holes, in step with the picture's clock."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from vidstyle.video.sound import Sound, SoundForm

LAYOUTS = ("mono", "stereo")
_JUMP_SECONDS = 0.1
"""A piece that is off by more has lost samples before it (or comes twice): silence, or a cut."""
_SETTLING_SECONDS = 2.0
"""Over how long the error of the clock is averaged; pieces arrive a little early and late."""
_TOLERANCE_SECONDS = 0.005
"""An average error below this is left alone."""
_STRETCH = 0.005
"""The most by which a piece is made longer or shorter, as a share: a twelfth of a semitone."""
_SILENCE_SECONDS = 1.0
"""Silence is made in pieces of this length, so that no gap takes much memory."""


class Soundtrack:
    """The samples of one track, counted from the moment ``origin``.

    A sound card has a clock of its own, which goes a little faster or slower than the capture clock that
    the pictures have. The track follows the capture clock: where the average error grows beyond 5 ms
    pieces are stretched or squeezed by at most half a percent, where it jumps silence is put in or what
    overlaps is cut away.
    """

    def __init__(self, form: SoundForm, origin: int) -> None:
        """``origin`` is the time of the first sample, in microseconds of the capture clock."""
        self.form = form
        """Of the track; pieces of another form are converted."""
        self.length = 0
        """Samples so far."""
        self._origin = origin
        self._drift = 0.0
        self._exact = True
        self._resampler: tuple[SoundForm, AudioResampler] | None = None

    def add(self, sound: Sound) -> Iterator[NDArray[np.float32]]:
        """The samples that ``sound`` continues the track with, float32 of shape (channels, n)."""
        samples = self._converted(sound)
        error = self._place(sound.pts) - self.length
        if self._exact or abs(error) > _JUMP_SECONDS * self.form.rate:
            self._drift = 0.0
            yield from self._silence(error)
            samples = samples[:, max(0, -error) :]
            self._exact = samples.shape[1] == 0  # until a piece reaches beyond the track's end
        else:
            samples = self._drawn(samples, error)
        if samples.shape[1]:
            self.length += samples.shape[1]
            yield samples

    def fill(self, pts: int) -> Iterator[NDArray[np.float32]]:
        """Silence up to the time ``pts``, where the track is not there yet."""
        self._exact = True
        yield from self._silence(self._place(pts) - self.length)

    def skip(self) -> None:
        """Know that pieces were left out: the next one goes to its very place."""
        self._exact = True

    def end(self) -> int:
        """The time, in microseconds of the capture clock, at which the track ends so far."""
        return self._origin + self.length * 1_000_000 // self.form.rate

    def _place(self, pts: int) -> int:
        return round((pts - self._origin) * self.form.rate / 1_000_000)

    def _silence(self, count: int) -> Iterator[NDArray[np.float32]]:
        while count > 0:
            part = min(count, int(_SILENCE_SECONDS * self.form.rate))
            count -= part
            self.length += part
            yield np.zeros((self.form.channels, part), np.float32)

    def _drawn(self, samples: NDArray[np.float32], error: int) -> NDArray[np.float32]:
        count = samples.shape[1]
        share = min(1.0, count / (self.form.rate * _SETTLING_SECONDS))
        self._drift += share * (error - self._drift)
        if abs(self._drift) <= _TOLERANCE_SECONDS * self.form.rate:
            return samples
        most = int(count * _STRETCH)
        change = max(-most, min(most, round(self._drift)))
        if change == 0:
            return samples
        self._drift -= change
        # Linear interpolation: at half a percent what it takes from the highest tones is not heard.
        places = np.linspace(0, count - 1, count + change)
        return np.stack([np.interp(places, np.arange(count), channel) for channel in samples]).astype(np.float32)

    def _converted(self, sound: Sound) -> NDArray[np.float32]:
        if sound.form == self.form:
            return sound.samples
        if self._resampler is None or self._resampler[0] != sound.form:
            made = AudioResampler("fltp", LAYOUTS[self.form.channels - 1], self.form.rate)
            self._resampler = sound.form, made
        channels = sound.samples if sound.form.channels <= len(LAYOUTS) else sound.samples[: len(LAYOUTS)]
        parts = self._resampler[1].resample(sound_frame(channels, sound.form.rate, None))
        return np.concatenate([np.zeros((self.form.channels, 0), np.float32), *(p.to_ndarray() for p in parts)], axis=1)


def sound_frame(samples: NDArray[np.float32], rate: int, pts: int | None) -> AudioFrame:
    """PyAV's frame of float32 ``samples`` of shape (1 or 2, n); ``pts`` counts samples."""
    made = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", LAYOUTS[samples.shape[0] - 1])
    made.sample_rate = rate
    made.pts = pts
    return made
