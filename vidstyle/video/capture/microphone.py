"""Sound of a microphone, on the capture clock."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, cast

import av
import av.device
import av.error
from av.audio.frame import AudioFrame
from av.container import InputContainer

from vidstyle.errors import VideoError
from vidstyle.imaging.image_io import quiet_libraries
from vidstyle.pipeline import BackOff, Closing, Worker
from vidstyle.video.audio import AudioChunk, AudioFormat, AudioReader, audio_format
from vidstyle.video.capture.clock import ArrivalClock, PlayClock, now
from vidstyle.video.capture.devices import NONBLOCK
from vidstyle.video.demux import SourceLost, live_packets

_ALSA_FOLDER = Path("/usr/share/alsa")
_CARDS = Path("/proc/asound/cards")
_POLL_SECONDS = 0.005


class Microphone(Closing):
    """A microphone that is listened to on a thread of its own, ``vidstyle-microphone``.

    It is a context manager; closing twice is fine. One that is unplugged is opened again for ever, with growing pauses.
    Run on Linux (ALSA); macOS (avfoundation) and Windows (dshow) follow FFmpeg's documentation and are untried.
    """

    def __init__(self, name: str = "default", *, on_sound: Callable[[AudioChunk], None]) -> None:
        """Open the microphone and start to listen. Raises `VideoError` listing those there are.

        ``name`` is ``default``, an ALSA device (``hw:1``; ``default`` may be served by a sound server that the ALSA
        inside PyAV does not know), on macOS and Windows the device's name, or ``testsrc``: a tone of 440 Hz.
        ``on_sound`` is called on the thread, with pieces of some 10-40 ms.
        """
        self.name = name
        self._on_sound = on_sound
        self._container = _opened(name)
        self.form: AudioFormat = audio_format(self._container.streams.audio[0])
        self.description = f"microphone {name}, {self.form.rate} Hz, {self.form.label}"
        self.state: Literal["open", "lost"] = "open"
        """``lost`` while it waits for the microphone to come back."""
        self.reconnects = 0
        self.error: BaseException | None = None
        """What ``on_sound`` raised, which ended the listening."""
        self._stop = threading.Event()
        self._worker = Worker("microphone", self._listen)
        self._worker.start()

    def close(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._worker:
            self._worker.join()

    def _listen(self) -> None:
        container: InputContainer | None = self._container
        try:
            while container is not None:
                try:
                    self._pass_on(container)
                finally:
                    container.close()
                self.state = "lost"
                container = BackOff().retry(lambda: _opened(self.name), self._stop, VideoError)
                if container is not None:
                    self.reconnects += 1
                    self.state = "open"
        except Exception as error:
            self.error = error

    def _pass_on(self, container: InputContainer) -> None:
        reader, arrival, play = AudioReader(self.form), ArrivalClock(), PlayClock()
        for frame in self._frames(container):
            for samples, seconds in reader.read(frame):
                length = samples.shape[1] / self.form.rate
                if self.name == "testsrc":
                    at = play.late(play.due(seconds, length))
                    if self._stop.wait((at - now()) / 1e6):
                        return
                else:
                    # What arrives now is the last sample.
                    at = arrival.picture(seconds + length) - round(length * 1e6)
                self._on_sound(reader.join(samples, at))

    def _frames(self, container: InputContainer) -> Iterator[AudioFrame]:
        with contextlib.suppress(SourceLost, av.error.FFmpegError):
            for packet in live_packets(container, self._stop, container.streams.audio[0], poll_seconds=_POLL_SECONDS):
                yield from cast(list[AudioFrame], packet.decode())


def _opened(name: str, system: str = sys.platform) -> InputContainer:
    address, demuxer, options = name, "alsa", {"fflags": NONBLOCK}
    if name == "testsrc":
        address, demuxer, options = "sine=frequency=440:sample_rate=48000", "lavfi", {}
    elif system == "darwin":
        address, demuxer = f":{name}", "avfoundation"
    elif system == "win32":
        # dshow has no word for the default device, and by default hands on half a second at a time.
        if name == "default":
            found = av.device.enumerate_input_devices("dshow")
            address = next((d.description for d in found if "audio" in d.media_types), "")
        address, demuxer = f"audio={address}", "dshow"
        options["audio_buffer_size"] = "40"
    elif (_ALSA_FOLDER / "alsa.conf").exists():
        # The ALSA in PyAV's wheel looks for its configuration where the wheel was built.
        os.environ.setdefault("ALSA_CONFIG_DIR", str(_ALSA_FOLDER))
    try:
        with quiet_libraries():
            container = av.open(address, format=demuxer, container_options=options, timeout=(5.0, 1.5))
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise VideoError(f"cannot open the microphone {name}; {_listed(system)}") from error
    if not container.streams.audio:
        container.close()
        raise VideoError(f"{name} has no sound; {_listed(system)}")
    return container


def _listed(system: str) -> str:
    if system.startswith("linux"):
        cards = _CARDS.read_text(errors="replace").splitlines() if _CARDS.exists() else []
        names = [f"hw:{line.split()[0]} ({line.split('- ', 1)[-1]})" for line in cards if " [" in line]
        return f"there are {', '.join(names)}" if names else "this machine shows no sound card"
    return "name it as the system's sound settings do"
