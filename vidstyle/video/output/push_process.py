"""A stream on its way to a server, by way of a process of its own.

PyAV holds the interpreter's lock while an output connects and while it ends, and gives FFmpeg no time limit: a server
that does not answer would stop the live picture, and one that does not read would keep `close` from returning. A
process can be ended at any time. It gets the packets, not the pictures.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from vidstyle.errors import VideoError
from vidstyle.video.formats import WHIP

if TYPE_CHECKING:
    from vidstyle.video.output.muxer import OutputSpec

INTERLEAVE = "500000"
"""Microseconds for which a track that falls silent may hold up the other, for FFmpeg."""
PATIENCE_SECONDS = 10.0
"""How long the server may take to answer, or to read on."""
_CHILD, _WHIP_CHILD = (Path(__file__).with_name(name) for name in ("push_child.py", "whip_child.py"))
_CLOSE_TIMEOUT = 1.0  # how many seconds the last packets may take once all are handed over


class PushProcess:
    """A file to write NUT to; `kill` may be called from any thread and ends a blocked `write`."""

    def __init__(self, spec: OutputSpec) -> None:
        """Start it. Raises `VideoError` where no process can be started."""
        self._name = spec.name
        self._patience = PATIENCE_SECONDS
        self._reason: str | None = None
        self.opened = threading.Event()
        """Set when the server has taken the stream."""
        self.closed = False
        """True when nothing more can be written; PyAV then writes no trailer."""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_WHIP_CHILD if spec.muxer == WHIP else _CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us; it ends when its input does
            )
        except OSError as error:
            raise VideoError(f"cannot start a process to send to {spec.name}: {error.strerror}") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._listener = threading.Thread(target=self._listen, name="vidstyle-push")
        self._listener.start()
        # Not as arguments: these can be read by every user of the machine, and the URL may hold a key.
        options = spec.options if spec.muxer == WHIP else {"max_interleave_delta": INTERLEAVE, **spec.options}
        order = {"url": spec.where, "muxer": spec.muxer, "options": options, "patience": self._patience}
        with contextlib.suppress(VideoError):  # it is told at the first write
            self.write(json.dumps(order).encode() + b"\n")

    def write(self, data: bytes) -> int:
        """Pass all of ``data`` on; blocks while the far end does not read. Raises `VideoError`."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._input.write(view) :]
        except (OSError, ValueError) as error:
            self.closed = True
            raise self.error() from error
        return len(data)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def error(self) -> VideoError:
        """Why it ended. Waits a moment for the last words."""
        self._listener.join(_CLOSE_TIMEOUT)
        reason = self._reason
        if reason is None and self.opened.is_set():
            reason = f"it took nothing for {self._patience:g} s, or the connection ended"
        elif reason is None:
            reason = f"no answer within {self._patience:g} s"
        return VideoError(f"cannot send to {self._name}: {reason}; trying again")

    def close(self) -> None:
        """Let the last packets out, within a second, and end the process. Closing twice is fine."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(_CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._listener.join()
        self._output.close()

    def kill(self) -> None:
        """End it at once; what is under way is lost."""
        self._process.kill()

    def _listen(self) -> None:
        for line in self._output:  # read byte by byte, as the pipe has no buffer; but the lines are few
            word, _, rest = line.decode(errors="replace").strip().partition(" ")
            if word == "open":
                self.opened.set()
            elif word == "lost":
                self._reason = rest
