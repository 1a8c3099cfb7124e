"""OSC with real packets on loopback: every address, everything that is wrong, floods."""

from __future__ import annotations

import importlib
import itertools
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from live_media import free_port, nothing_grows, open_descriptors, resident_mib, running_threads, wait_for

from vidstyle.cli import vidstyle
from vidstyle.errors import BadOption, MissingDependency
from vidstyle.stage import osc
from vidstyle.stage.addresses import ADDRESSES
from vidstyle.stage.osc import OscReceiver, OscSender, messages_of, split_address

pythonosc = pytest.importorskip("pythonosc", reason="python-osc is not installed")
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder  # noqa: E402
from pythonosc.osc_message_builder import OscMessageBuilder  # noqa: E402
from pythonosc.udp_client import SimpleUDPClient  # noqa: E402

_sent = itertools.count()


@pytest.fixture
def receiver() -> Iterator[OscReceiver]:
    with OscReceiver("0") as receiver:
        yield receiver


def packet(address: str, *values: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for value in values:
        builder.add_arg(value)
    return builder.build().dgram


def send(receiver: OscReceiver, *packets: bytes) -> None:
    """Send, and wait until all has been read."""
    last = next(_sent) / 10
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        for data in packets:
            sender.sendto(data, ("127.0.0.1", receiver.port))
        sender.sendto(packet("/vidstyle/fade", last), ("127.0.0.1", receiver.port))
    assert wait_for(lambda: "fade" in receiver._changes and abs(receiver._changes["fade"].value - last) < 0.01, 10)


def taken(receiver: OscReceiver) -> list[tuple[str, Any]]:
    return [(change.name, change.value) for change in receiver.take() if change.name != "fade"]


EXAMPLES: dict[str, tuple[list[Any], Any]] = {
    "style": (["great_wave"], "great_wave"),
    "blend": (["great_wave", 0.75, "the_scream", 1], (("great_wave", 0.75), ("the_scream", 1.0))),
    "strength": ([0.5], 0.5),
    "smooth": ([1], 1.0),
    "mask": (["person"], "person"),
    "mirror": ([True], True),
    "split": ([0.0], False),
    "record": ([1], True),
    "snapshot": ([], True),
    "worksize": ([240.0], 240),
    "fade": ([2.5], 2.5),
    "beat": ([3], 3),
    "tap": ([1.0], True),
}


@pytest.mark.parametrize("name", [address.name for address in ADDRESSES])
def test_every_address_is_understood(name: str, receiver: OscReceiver) -> None:
    arguments, value = EXAMPLES[name]
    with SimpleUDPClient("127.0.0.1", receiver.port) as client:
        client.send_message(f"/vidstyle/{name}", arguments)
    assert wait_for(lambda: receiver.received)
    assert [(one.name, one.value) for one in receiver.take()] == [(name, value)]
    assert receiver.take() == [] and receiver.refused == 0


def test_buttons_that_are_let_go_and_numbers_of_styles(receiver: OscReceiver) -> None:
    send(receiver, packet("/vidstyle/snapshot", 0.0), packet("/vidstyle/style", 3.0), packet("/vidstyle/beat"))
    assert taken(receiver) == [("style", 3), ("beat", 0)]


BAD = [
    packet("/nothing"),
    packet("/vidstyle/styles", "great_wave"),
    packet("/vidstyle/*", 1),
    packet("/vidstyle/style"),
    packet("/vidstyle/style", "a", "b"),
    packet("/vidstyle/style", ""),
    packet("/vidstyle/style", "x" * 500),
    packet("/vidstyle/style", 0),
    packet("/vidstyle/mask", "cat"),
    packet("/vidstyle/style", 1.5),
    packet("/vidstyle/style", True),
    packet("/vidstyle/blend"),
    packet("/vidstyle/blend", "a"),
    packet("/vidstyle/blend", "a", -1.0),
    packet("/vidstyle/blend", "a", 0.0),
    packet("/vidstyle/blend", 1.0, "a"),
    packet("/vidstyle/blend", *["a", 1.0] * 17),
    packet("/vidstyle/strength", 1.01),
    packet("/vidstyle/strength", "much"),
    packet("/vidstyle/strength", float("nan")),
    packet("/vidstyle/strength", float("inf")),
    packet("/vidstyle/strength", True),
    packet("/vidstyle/mirror", 0.5),
    packet("/vidstyle/mirror", "on"),
    packet("/vidstyle/worksize", 3),
    packet("/vidstyle/worksize", 1 << 30),
    packet("/vidstyle/fade", -1),
    packet("/vidstyle/beat", 9),
    packet("/vidstyle/strength", b"blob"),
    b"",
    b"\0",
    b"/vidstyle/strength",
    b"/vidstyle/strength\0\0,f\0\0",
    b"/vidstyle/strength\0\0,f\0\0\x3f",
    b"/vidstyle/strength\0\0f\0\0\0\x3f\0\0\0",
    b"/vidstyle/style\0,s\0\0\xff\xfe\0\0",
    b"/vidstyle/style\0,s\0\0great",
    b"/vidstyle/style\0,I\0\0",
    b"/vidstyle/\xff\0\0",
    b"#bundle\0",
    b"#bundle\0" + bytes(8) + b"\0\0",
    b"#bundle\0" + bytes(8) + struct.pack(">i", -4),  # on which python-osc's own parser never ends
    b"#bundle\0" + bytes(8) + struct.pack(">i", 1 << 30) + b"/x\0\0",
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_counted_and_told_once(data: bytes, receiver: OscReceiver) -> None:
    send(receiver, data, data, data)
    assert receiver.refused == 3
    assert taken(receiver) == []
    (problem,) = receiver.problems()
    assert problem.startswith("OSC: ") and "\n" not in problem and len(problem) < 400
    assert receiver.problems() == []
    send(receiver, packet("/vidstyle/strength", 0.25))
    assert taken(receiver) == [("strength", 0.25)]


def test_sentences_about_noise_come_to_an_end(receiver: OscReceiver) -> None:
    chance = random.Random(3)
    noise = [chance.randbytes(chance.randrange(200)) for _ in range(150)]
    noise += [packet("/vidstyle/blend", "great_wave", 1.0)[: chance.randrange(36)] for _ in range(50)]
    noise += [packet(f"/scan/{first}{second}") for first in "abcdefghij" for second in "abcdefghij"]
    for begin in range(0, len(noise), 50):
        send(receiver, *noise[begin : begin + 50])
    assert receiver.refused >= len(noise)
    problems = receiver.problems()
    assert len(problems) == 21 and "counted only" in problems[-1]


def test_a_bundle_is_its_messages_whatever_its_time(receiver: OscReceiver) -> None:
    inner = OscBundleBuilder(IMMEDIATELY)
    outer = OscBundleBuilder(time.time() + 1000)
    for builder, address, value in ((inner, "strength", 0.5), (outer, "mirror", 1)):
        message = OscMessageBuilder(f"/vidstyle/{address}")
        message.add_arg(value)
        builder.add_content(message.build())
    outer.add_content(inner.build())
    send(receiver, outer.build().dgram)
    assert taken(receiver) == [("mirror", True), ("strength", 0.5)]


def test_bundles_within_bundles_end() -> None:
    data = packet("/vidstyle/tap")
    for _ in range(20):
        data = b"#bundle\0" + bytes(8) + struct.pack(">i", len(data)) + data
    with pytest.raises(BadOption, match="nested"):
        list(messages_of(data))


def test_the_newest_of_each_address_is_kept_in_the_order_of_arrival(receiver: OscReceiver) -> None:
    faders = [packet("/vidstyle/strength", number / 99) for number in range(100)]
    send(receiver, packet("/vidstyle/style", "a"), *faders[:50], packet("/vidstyle/blend", "b", 1), *faders[50:])
    assert taken(receiver) == [("blend", (("b", 1.0),)), ("strength", pytest.approx(1))]
    assert receiver.received == 103


@pytest.mark.alone
def test_a_flood_takes_neither_memory_nor_the_newest_value(receiver: OscReceiver) -> None:
    packets = [packet("/vidstyle/strength", number % 100 / 100) for number in range(1000)]
    states = []
    for _ in range(4):
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            for number, data in enumerate(packets):
                sender.sendto(data, ("127.0.0.1", receiver.port))
                if number % 4 == 3:
                    time.sleep(0.001)
        send(receiver)
        assert dict(taken(receiver)) == {"strength": pytest.approx(0.99)}
        states.append((running_threads(), open_descriptors(), resident_mib()))
    assert receiver.received == 4 * 1001 and receiver.refused == 0
    nothing_grows(states)


def test_only_loopback_is_listened_on_unless_it_is_said_otherwise() -> None:
    with OscReceiver("0") as receiver:
        assert receiver._socket.getsockname()[0] == receiver.host == "127.0.0.1"
    with OscReceiver("0.0.0.0:0") as receiver:
        assert receiver._socket.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("9000", ("127.0.0.1", 9000)),
        ("0.0.0.0:9000", ("0.0.0.0", 9000)),
        ("desk.local:1", ("desk.local", 1)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_addresses(text: str, found: tuple[str, int]) -> None:
    assert split_address(text, "--osc") == found


@pytest.mark.parametrize("text", ["", "x", ":9000", "host:", "70000", "host:-1", "::1:9000", "9000:host", "[]:9", "٣"])
def test_an_address_that_is_none_is_told(text: str) -> None:
    with pytest.raises(BadOption, match="--osc is .*; write"):
        split_address(text, "--osc")
    with pytest.raises(BadOption, match="--osc-out"):
        split_address("9000", "--osc-out", default=None)


def webcam(folder: Path, *words: str) -> Result:
    record = str(folder / "never.mkv")
    return CliRunner().invoke(vidstyle, ["webcam", "--source", "testsrc", "--no-window", "--record", record, *words])


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        done = webcam(tmp_path, "--osc", str(port))
    assert done.exit_code == 2 and f"UDP port {port}" in done.stderr and "another port" in done.stderr
    assert "Traceback" not in done.output and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--osc", "nohost.invalid:9000"], "no host 'nohost.invalid'"),
        (["--osc", "192.0.2.1:9000"], "address of this machine"),
        (["--osc-out", "9000"], "HOST:PORT"),
        (["--osc-out", "localhost:0"], "between 1 and 65535"),
        (["--osc", "0.0.0.0:{port}", "--osc-out", "localhost:{port}"], "would send to --osc"),
        (["--quantize", "bar"], "need a beat"),
        (["--pulse", "0.5"], "need a beat"),
    ],
)
def test_what_cannot_be_is_one_sentence(words: list[str], said: str, tmp_path: Path) -> None:
    port = free_port()
    done = webcam(tmp_path, *(word.format(port=port) for word in words))
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.output


@pytest.mark.parametrize("make", [lambda: OscReceiver("0"), lambda: OscSender("localhost:9000")])
def test_without_python_osc_the_command_is_told(make: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "pythonosc.osc_message", None)
            importlib.reload(osc)
        with pytest.raises(MissingDependency, match=r"pip install 'vidstyle\[stage\]'"):
            osc.OscReceiver("0") if make().__class__ is OscReceiver else osc.OscSender("localhost:9000")
    finally:
        importlib.reload(osc)


def test_figures_are_sent_a_few_times_a_second() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as desk:
        desk.bind(("127.0.0.1", 0))
        desk.settimeout(10)
        with OscSender(f"localhost:{desk.getsockname()[1]}") as sender:
            sender.send(29.97, 21.5, "great_wave", 5.0)
            assert not sender.is_due(5.1) and sender.is_due(5.26)
        messages = [osc.OscMessage(desk.recv(1000)) for _ in range(3)]
    assert [(one.address, *one.params) for one in messages] == [
        ("/vidstyle/fps", pytest.approx(29.97)),
        ("/vidstyle/latency", pytest.approx(21.5)),
        ("/vidstyle/style", "great_wave"),
    ]


def test_nobody_who_listens_and_no_way_are_no_error() -> None:
    with OscSender(f"127.0.0.1:{free_port()}") as sender:
        for now in range(4):
            sender.send(30, 20, "a", now)
    assert sender.problem is None
    with OscSender("255.255.255.255:9") as sender:  # broadcasts are not allowed to a plain socket
        for now in range(3):
            sender.send(30, 20, "a", now)
        assert sender.problem is not None and "255.255.255.255:9" in sender.problem
