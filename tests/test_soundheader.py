"""The first bytes of a packet say how it sounds."""

from __future__ import annotations

import pytest

from vidstyle.video.audio import described_header


@pytest.mark.parametrize(
    ("codec", "head", "form"),
    [
        ("mp3", "fffb9064", "stereo at 44100 Hz"),
        ("mp3", "fffb90c4", "mono at 44100 Hz"),
        ("mp3", "fff354c4", "mono at 24000 Hz"),
        ("mp2", "fffda404", "stereo at 48000 Hz"),
        ("mp2", "fffdac04", None),  # a reserved rate
        ("ac3", "0b770000144043", "stereo at 48000 Hz"),
        ("ac3", "0b7700005440e3", "5.0 or 5.1 at 44100 Hz"),
        ("eac3", "0b7701ff3484", "stereo at 48000 Hz"),
        ("eac3", "0b7741ff3f84", None),  # channels that are added to the first substream's
        ("ac3", "0b77", None),
        ("mp3", "49443304", None),
        ("opus", "fc00000000000000", None),
    ],
)
def test_channels_and_rate_are_read(codec: str, head: str, form: str | None) -> None:
    assert (
        described_header(codec, bytes.fromhex(head).ljust(8, b"\0") if len(head) > 4 else bytes.fromhex(head)) == form
    )
