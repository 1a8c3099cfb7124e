"""Files of tensors: what is written comes back; what is hostile or damaged is a sentence."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from vidstyle.errors import BadModel
from vidstyle.models import checkpoint
from vidstyle.models.checkpoint import TensorFile, read_tensors, write_tensors

OURS = {"format": "f", "version": "1"}


def read(path: Path) -> TensorFile:
    return read_tensors(path, file_format="f", version="1")


def write(path: Path, **tensors: np.ndarray) -> None:
    write_tensors(path, tensors, file_format="f", version="1", facts={"a": "b"}, card={"painter": "Hokusai"})


def raw(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with exactly this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str, shape: list[int], end: int, **metadata: object) -> dict[str, object]:
    return {"__metadata__": {**OURS, **metadata}, "t": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    half, single = np.array([1.5, -2], np.float16), np.array([[1e-30]], np.float32)
    write(path, half=half, single=single)
    file = read(path)
    assert np.array_equal(file.tensors["half"], half) and np.array_equal(file.tensors["single"], single)
    assert all(t.dtype == np.float32 for t in file.tensors.values())
    assert file.facts == {"a": "b"}
    assert file.card == {"painter": "Hokusai"}


def test_a_strided_array_is_written_in_its_own_order(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write(path, t=values)
    assert np.array_equal(read(path).tensors["t"], values)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "x.safetensors"
    folder.mkdir()
    with pytest.raises(BadModel, match="cannot write"):
        write(folder, t=np.zeros(1, np.float32))
    with pytest.raises(BadModel, match="cannot write"):
        write(tmp_path / "none" / "x.safetensors", t=np.zeros(1, np.float32))
    assert list(tmp_path.iterdir()) == [folder]


def test_writing_replaces_the_old_file_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write(path, t=np.zeros(1, np.float32))
    write(path, t=np.ones(1, np.float32))
    assert read(path).tensors["t"] == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")
def test_a_written_file_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    before = os.umask(0o022)
    try:
        write(path, t=np.zeros(1, np.float32))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a vidstyle file"),
        (b"RIFF1234WEBP", "not a vidstyle file"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00", "not a vidstyle file"),  # the beginning of a pickle
        (struct.pack("<Q", 1 << 60) + b"{}", "header too large"),
        (raw(b"{oops"), "not a vidstyle file"),
        (raw({"__metadata__": {"format": 1}}), "not a vidstyle file"),
        (raw({"__metadata__": {"format": "pt"}}), "not a f file"),
        (raw({}), "not a f file"),
        (raw({"__metadata__": {"format": "f", "version": "99"}}), "version 99.*upgrade"),
        (raw({"__metadata__": {"format": "f"}}), "version ?"),
        (raw({"__metadata__": {**OURS, "card": "[]"}}), "card is not a JSON object"),
        (raw({"__metadata__": {**OURS, "card": "{"}}), "damaged"),
        (raw({"__metadata__": {**OURS, "card": "[" * 100_000}}), "damaged"),
        (raw({"__metadata__": {**OURS, "card": "9" * 5000}}), "damaged"),
        (raw(tensor("F32", [4], 1 << 40), b"\0" * 8), "damaged"),
        (raw(tensor("F32", [1 << 40, 1 << 40], 8), b"\0" * 8), "damaged"),
        (raw(tensor("F32", [2], 8), b"\0" * 4), "damaged"),
        (raw(tensor("BF16", [2], 4), b"\0" * 4), "is BF16; only F16, F32"),
        (raw(tensor("F8_E4M3", [4], 4), b"\0" * 4), "only F16, F32"),
        (raw(tensor("I64", [1], 8), b"\0" * 8), "is I64; only F16, F32"),
        (raw(tensor("F32", [1], 4), struct.pack("<f", float("nan"))), "not finite"),
        (raw(tensor("F16", [1], 2), struct.pack("<e", float("inf"))), "not finite"),
    ],
)
def test_a_hostile_or_damaged_file_is_a_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadModel, match=sentence) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.truncate(checkpoint.MAX_FILE_BYTES + (1 << 20))  # sparse: takes no space
    with pytest.raises(BadModel, match="65 MiB; a f file has at most 64"):
        read(path)


def test_what_is_no_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="cannot read"):
        read(tmp_path / "none.safetensors")
    with pytest.raises(BadModel, match="is a folder or a device"):
        read(tmp_path)
    with pytest.raises(BadModel):
        read(Path("nul\0byte"))
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with pytest.raises(BadModel, match="is a folder or a device"):
        read(tmp_path / "pipe")
