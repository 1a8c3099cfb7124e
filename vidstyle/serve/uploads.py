"""Files that a browser or curl sends: streamed to disk, never more than is allowed of anything."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import aiohttp
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from vidstyle.errors import ImageError
from vidstyle.imaging.image_io import PictureHeader, read_header
from vidstyle.serve.http import ApiError
from vidstyle.serve.job import INPUT, file_label, title_of_file

TOTAL_SECONDS = 600.0
"""The longest that an upload may take: 64 MiB at 1 Mbit/s."""
PAUSE_SECONDS = 30.0
"""The longest wait for the next bytes of one."""
MIN_RATE = 16 << 10
"""Bytes a second that must come on the whole, but for the first `PAUSE_SECONDS`."""
MAX_UPLOADS = 8
GRACE_SECONDS = 5.0
"""An upload that is too slow after this many seconds is ended where another one needs its place."""
_CHUNK = 1 << 16
_FRAMING = 1 << 16  # bytes that boundaries and headers of the parts may add to a request
_MAX_PARTS = 16
_PLAIN = ("", "binary", "7bit", "8bit")


@dataclass(frozen=True)
class Upload:
    """An uploaded file and the fields beside it."""

    path: Path
    """`INPUT` in the folder that was given, whatever the file's name was."""
    label: str
    """The file's name for messages; ``title`` is the same without the suffix."""
    title: str
    size: int
    texts: dict[str, str]
    """The other fields."""


class Uploads:
    """The uploads under way. One that is too slow is ended, and at once where another one needs its place."""

    def __init__(
        self, limit: int = MAX_UPLOADS, *, pause_seconds: float = PAUSE_SECONDS, total_seconds: float = TOTAL_SECONDS
    ) -> None:
        self.pause_seconds, self.total_seconds = pause_seconds, total_seconds
        self._limit = limit
        self._under_way: list[_Receiver] = []

    def __len__(self) -> int:
        return len(self._under_way)

    async def receive(
        self, request: web.Request, folder: Path, *, field: str, texts: Mapping[str, int], max_bytes: int
    ) -> Upload:
        """Read a multipart request: the file in ``field`` into ``folder``, and the fields ``texts``, each with the
        most bytes that it may have.

        `ApiError` for everything else: 400, 408 (too slow), 413 (too large), 415, 429 (too many at once), 503 (disk).
        """
        if request.content_type != "multipart/form-data":
            raise ApiError(415, f"send multipart/form-data with a file in it, as `curl -F {field}=@FILE` does")
        if (request.content_length or 0) > max_bytes + sum(texts.values()) + _FRAMING:
            raise _too_large(field, max_bytes)
        self._free_place()
        receiver = _Receiver(self, request, folder / INPUT, field, texts, max_bytes)
        self._under_way.append(receiver)
        try:
            async with receiver.deadline:
                return await receiver.receive()
        except TimeoutError as error:
            raise ApiError(
                408,
                f"the upload was too slow: it may take {self.total_seconds:g} s, pause for {self.pause_seconds:g} s, "
                f"and must come with {MIN_RATE >> 10} KiB a second on the whole",
            ) from error
        # A part without an end, a header that is too long, a connection that is gone: each has its own class.
        except (
            *(ValueError, KeyError, RuntimeError, AssertionError, ConnectionError, EOFError),
            *(HttpProcessingError, aiohttp.ClientError, web.RequestPayloadError, Warning),
        ) as error:
            raise ApiError(400, "the multipart body is damaged, or the connection broke off; send it again") from error
        except OSError as error:
            raise ApiError(503, f"the server cannot keep the file: {error.strerror}", retry_after=600) from error
        finally:
            if receiver in self._under_way:
                self._under_way.remove(receiver)

    def _free_place(self) -> None:
        """End the slowest upload where all places are taken; `ApiError` 429 where none is too slow."""
        if len(self) < self._limit:
            return
        slow = [one for one in self._under_way if one.age > GRACE_SECONDS and one.rate < MIN_RATE]
        if not slow:
            raise ApiError(429, f"{len(self)} uploads are under way, the most at once; try again", retry_after=10)
        slowest = min(slow, key=lambda one: one.rate)
        self._under_way.remove(slowest)
        slowest.abort()


class _Receiver:
    """Reads one multipart body."""

    def __init__(
        self, uploads: Uploads, request: web.Request, path: Path, field: str, texts: Mapping[str, int], max_bytes: int
    ) -> None:
        self._request, self._path, self._field = request, path, field
        self._texts, self._max_bytes = texts, max_bytes
        self._pause, self._total = uploads.pause_seconds, uploads.total_seconds
        self._began = monotonic()
        self._size = 0
        self._aborted = False
        self.deadline = asyncio.timeout(min(self._pause, self._total))
        """Moved with each chunk: by then the next one must have come, and all on the whole."""

    @property
    def age(self) -> float:
        return monotonic() - self._began

    @property
    def rate(self) -> float:
        return self._size / max(self.age, 1e-3)

    def abort(self) -> None:
        """End the upload as too slow."""
        self._aborted = True
        self.deadline.reschedule(asyncio.get_running_loop().time())

    async def receive(self) -> Upload:
        """The upload; TimeoutError where it is too slow."""
        reader = await self._request.multipart()
        upload: Upload | None = None
        texts: dict[str, str] = {}
        for _ in range(_MAX_PARTS):
            part = await reader.next()
            if part is None:
                break
            if not isinstance(part, BodyPartReader):
                raise ApiError(400, "a field holds fields of its own; send one file")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # aiohttp warns of what it cannot read, and reads nothing then
                name, file_name = part.name, part.filename
            encoding = part.headers.get("Content-Transfer-Encoding", "").lower()
            if encoding not in _PLAIN or "Content-Encoding" in part.headers:
                raise ApiError(415, "a field is encoded; send files as they are")
            if name == self._field:
                if upload is not None:
                    raise ApiError(400, f"there are two files; {self._allowed()}")
                size = await self._save(part)
                upload = Upload(self._path, file_label(file_name), title_of_file(file_name), size, texts)
            elif name in self._texts:
                assert name is not None
                if name in texts:
                    raise ApiError(400, f"the field {name!r} is there twice; {self._allowed()}")
                texts[name] = await self._read(part, name)
            else:
                shown = "without a name" if name is None else repr(name[:40])
                raise ApiError(400, f"there is a field {shown}; {self._allowed()}")
        else:
            raise ApiError(400, f"the request has more than {_MAX_PARTS} fields; {self._allowed()}")
        if upload is None:
            raise ApiError(400, f"the file is missing; {self._allowed()}")
        if not upload.size:
            raise ApiError(400, "the file is empty; choose another one")
        return upload

    async def _chunk(self, part: BodyPartReader) -> bytes:
        chunk = bytes(await part.read_chunk(_CHUNK))
        self._size += len(chunk)
        age = self.age
        left = min(self._pause, self._pause + self._size / MIN_RATE - age, self._total - age)
        if not self._aborted:
            self.deadline.reschedule(asyncio.get_running_loop().time() + left)
        return chunk

    async def _save(self, part: BodyPartReader) -> int:
        size = 0
        with self._path.open("xb") as file:
            while chunk := await self._chunk(part):
                size += len(chunk)
                if size > self._max_bytes:
                    raise _too_large(self._field, self._max_bytes)
                file.write(chunk)
        return size

    async def _read(self, part: BodyPartReader, name: str) -> str:
        data = b""
        while chunk := await self._chunk(part):
            data += chunk
            if len(data) > self._texts[name]:
                raise ApiError(413, f"the field {name!r} has more than {self._texts[name]} bytes; make it shorter")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ApiError(400, f"the field {name!r} is not UTF-8 text") from error

    def _allowed(self) -> str:
        return f"send one file in the field {self._field!r}, and if you like {', '.join(self._texts)}"


def _too_large(field: str, max_bytes: int) -> ApiError:
    size = f"{max_bytes >> 20} MiB" if max_bytes >= 1 << 20 else f"{max_bytes} bytes"
    return ApiError(413, f"the {field} is too large: at most {size} are taken; make it smaller first")


def check_painting(upload: Upload) -> PictureHeader:
    """The header of an uploaded picture; nothing is decoded. `ApiError` 415 where it is not a picture we read."""
    try:
        return read_header(upload.path.read_bytes(), upload.label)
    except ImageError as error:
        raise ApiError(415, str(error)) from error
