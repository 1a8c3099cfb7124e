"""The program that `vidstyle.video.output.push_process` starts: a stream from standard input on to a server.

It imports nothing of vidstyle: it is started by its path, and again whenever the connection was lost. Standard input
begins with a line of JSON (url, muxer, options, seconds of patience), then comes the stream as NUT. Standard output
gets ``open`` when the server has taken it, or ``lost`` and the reason.
"""

from __future__ import annotations

import faulthandler
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import av


def main(carry: Callable[[dict[str, Any], Callable[[str], None]], None]) -> None:
    """Have ``carry`` send one stream until it ends, or the connection does; it gets the order and what says a line."""
    try:
        with open(0, "rb", buffering=0, closefd=False) as line:  # what follows the line is FFmpeg's to read
            order = json.loads(line.readline())
    except ValueError:
        return  # whoever started this has ended already
    try:
        carry(order, _say)
    except Exception as error:  # each library has its own
        _say(f"lost {getattr(error, 'strerror', None) or str(error) or type(error).__name__}")


def _carry(order: dict[str, Any], say: Callable[[str], None]) -> None:
    patience = float(order["patience"])
    # The streams' header says all that is needed: no more than a packet is read ahead to find out more.
    quick = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"}
    with av.open("pipe:0", format="nut", container_options=quick) as source:
        output = av.open(order["url"], "w", format=order["muxer"], container_options=order["options"])
        tracks = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        with _deadline(patience):
            output.start_encoding()
        say("open")
        try:
            for packet in source.demux():
                if packet.pts is None:
                    continue  # the end of a track
                packet.dts = packet.pts  # there are no B frames, but NUT's reader does not know it of the first
                packet.stream = tracks[packet.stream.index]
                with _deadline(patience):
                    output.mux_one(packet)
        finally:
            with _deadline(patience):
                output.close()


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """End this process if what is inside takes longer.

    PyAV holds the interpreter while it connects and gives FFmpeg no time limit for writing, so neither another thread
    nor a signal handler would run; the watchdog of `faulthandler` needs neither.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _say(text: str) -> None:
    os.write(1, (" ".join(text.split()) + "\n").encode())


if __name__ == "__main__":
    main(_carry)
