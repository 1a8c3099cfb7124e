"""Safetensors files with a format, a version, a few facts and a card; read as if they were hostile.

Nothing is unpickled, no path inside a file is followed, and sizes are checked before memory is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vidstyle.errors import BadModel
from vidstyle.files import as_path, write_failure, write_whole

MAX_FILE_BYTES = 64 << 20
"""The largest file that is read: twenty times the largest that vidstyle writes."""


@dataclass(frozen=True)
class TensorFile:
    tensors: dict[str, NDArray[np.float32]]
    codes: dict[str, NDArray[np.uint8]]
    """The tensors of bytes, which only some files may have."""
    facts: dict[str, str]
    """The strings of the header, without format, version and card."""
    card: dict[str, object]
    """Free facts for people: painting, painter, licence, steps, losses."""


def read_tensors(path: Path, *, file_format: str, version: str, max_bytes: int = MAX_FILE_BYTES) -> TensorFile:
    """Read a file of ``file_format`` and ``version``; `BadModel` says what it is instead."""
    path = as_path(path, "file")
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise BadModel(f"{path} is a folder or a device, not a {file_format} file")
        if size > max_bytes:
            raise BadModel(f"{path} has {size >> 20} MiB; a {file_format} file has at most {max_bytes >> 20}")
        with safe_open(path, "np") as file:
            header = dict(file.metadata() or {})
            if header.pop("format", None) != file_format:
                raise BadModel(f"{path} is a safetensors file, but not a {file_format} file")
            if (found := header.pop("version", "?")) != version:
                raise BadModel(
                    f"{path} has {file_format} version {found}; this vidstyle reads version {version}: "
                    "upgrade with `pip install -U vidstyle`, or adapt the style again"
                )
            card = json.loads(header.pop("card", "{}"))
            tensors, codes = {}, {}
            for name in file.keys():  # noqa: SIM118
                if file.get_slice(name).get_dtype() == "U8":
                    codes[name] = np.asarray(file.get_tensor(name))
                else:
                    tensors[name] = _float32(path, name, file)
    except BadModel:
        raise
    except OSError as error:
        raise BadModel(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise BadModel(f"{path} is not a vidstyle file, or it is damaged: {error}") from error
    if not isinstance(card, dict):
        raise BadModel(f"{path} is damaged: its card is not a JSON object")
    return TensorFile(tensors, codes, header, card)


def write_tensors(
    path: Path,
    tensors: Mapping[str, NDArray[np.floating] | NDArray[np.uint8]],
    *,
    file_format: str,
    version: str,
    facts: dict[str, str],
    card: dict[str, object],
    overwrite: bool = True,
) -> None:
    """Write ``tensors`` and header to ``path``, whole or not at all. `BadOption` if it is there and must stay."""
    try:
        # `save_file` would make a file that only its owner can read, whatever the umask says.
        data = tensor_bytes(tensors, file_format=file_format, version=version, facts=facts, card=card)
        write_whole(path, data, overwrite=overwrite)
    except (OSError, SafetensorError) as error:
        raise BadModel(write_failure(path, error)) from error


def tensor_bytes(
    tensors: Mapping[str, NDArray[np.floating] | NDArray[np.uint8]],
    *,
    file_format: str,
    version: str,
    facts: dict[str, str],
    card: dict[str, object],
) -> bytes:
    """The content of the file that `write_tensors` writes."""
    header = {**facts, "format": file_format, "version": version, "card": json.dumps(card)}
    return save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, header)


def _float32(path: Path, name: str, file: safe_open) -> NDArray[np.float32]:
    stored = file.get_slice(name).get_dtype()  # type: ignore[no-untyped-call]
    if stored not in ("F16", "F32"):  # asked before NumPy is, which does not know every type of the format
        raise BadModel(f"{path}: tensor {name!r} is {stored}; only F16, F32 and, for codes, U8 are allowed")
    values = np.asarray(file.get_tensor(name), np.float32)  # type: ignore[no-untyped-call]
    if not np.isfinite(values).all():
        raise BadModel(f"{path}: tensor {name!r} holds values that are not finite numbers")
    return values
