"""A target that is open for packets."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from vidstyle.errors import VideoError
from vidstyle.files import taken, write_failure
from vidstyle.video.container import ffmpeg_reasons
from vidstyle.video.relay import Relay
from vidstyle.video.targets import INTERLEAVE, Target, segments

_BUFFER_BYTES = 1 << 18


class Outlet:
    """A container of FFmpeg's for one target, which can also be left without an end.

    Add the streams to `container`, then `begin`. A file has its name from the start and is complete up to
    its last second at any time.
    """

    def __init__(self, target: Target, *, overwrite: bool = True) -> None:
        """Open it. Raises `VideoError`, and `BadOption` if the file is there and must stay."""
        self._target = target
        self._path = os.path.realpath(target.path) if target.kind != "server" else ""
        options = {"flush_packets": "1", "max_interleave_delta": INTERLEAVE}
        self.relay: Relay | None = None
        """The process that sends to a server."""
        self._file: _WholeWrites | None = None
        with self._told():
            if target.kind == "playlist":
                # FFmpeg makes its files later, and it is now that a folder may be told to be no place.
                open(self._path, "ab" if overwrite else "xb").close()
                for old in segments(target.path):
                    old.unlink()
                file: Any = target.where
            elif target.kind == "file":
                file = self._file = _WholeWrites(self._path, "wb" if overwrite else "xb")
            else:
                file = self.relay = Relay(target)
        if self.relay is None:
            options |= target.options
        else:
            options["max_interleave_delta"] = "1"  # the other process puts the packets in order
        muxer = target.muxer if self.relay is None else "nut"
        self.container: OutputContainer = av.open(
            file, "w", format=muxer, container_options=options, buffer_size=_BUFFER_BYTES
        )
        """Where the streams are added."""

    def begin(self) -> None:
        """Write the header. Raises `VideoError`."""
        with self._told(), ffmpeg_reasons():
            self.container.start_encoding()

    @property
    def opened(self) -> bool:
        """Whether the far end has taken the stream; files are open from the start."""
        return self.relay is None or self.relay.opened.is_set()

    def write(self, packet: Packet[Stream]) -> None:
        """Write one packet. Raises `VideoError`."""
        with self._told():
            self.container.mux_one(packet)

    def check(self) -> None:
        """Raise `VideoError` where what was written cannot be found any more, or nobody listens."""
        if self.relay is not None and self.relay.ended:
            raise self.relay.error()
        if self._target.kind == "file" and not os.path.exists(self._path):
            # The system goes on writing to a file without a name, and frees it at the end.
            raise VideoError(f"{self._target.name} was removed while it was written; the recording ends here")

    def finish(self) -> None:
        """Write the index, and close. Raises `VideoError`."""
        try:
            with self._told():
                self.container.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without an index: what is written plays, and an index might not be written whole."""
        for file in (self._file, self.relay):
            if file is not None:
                file.close()
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self.container.close()  # writes nothing to a file that is closed

    def remove(self) -> None:
        """Take an abandoned file away again, and a playlist without a segment."""
        with contextlib.suppress(OSError):
            if self._target.kind == "file" or (self._target.kind == "playlist" and not os.path.getsize(self._path)):
                os.unlink(self._path)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except VideoError:
            raise
        except FileExistsError as error:
            raise taken(self._target.name) from error
        except (av.error.FFmpegError, OSError) as error:
            if self.relay is not None:
                raise self.relay.error() from error
            raise VideoError(write_failure(self._target.name, error)) from error


class _WholeWrites(io.FileIO):
    """An unbuffered file that never writes a part: FFmpeg takes what it gave for written."""

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        length = view.nbytes
        while view:
            view = view[super().write(view) :]
        return length
