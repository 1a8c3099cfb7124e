"""Files that a browser or curl sends: streamed to disk, never more than is allowed of anything."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import aiohttp
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import MultipartReader

from vidstyle.errors import ImageError
from vidstyle.imaging.image_io import PictureHeader, read_header
from vidstyle.serve.job import INPUT
from vidstyle.serve.label import label_of_file, name_of_file
from vidstyle.serve.refused import Refused

TOTAL_SECONDS = 600.0
"""The longest that an upload may take: 64 MiB at 1 Mbit/s."""
PAUSE_SECONDS = 30.0
"""The longest wait for the next bytes of one."""
LEAST_RATE = 16 << 10
"""Bytes a second that must come on the whole, but for the first `PAUSE_SECONDS`."""
MOST_UPLOADS = 8
"""Uploads under way at once."""
_GRACE_SECONDS = 5.0
"""After which an upload that is too slow goes where another one needs its place."""
_CHUNK = 1 << 16
_FRAMING = 1 << 16
"""What boundaries and headers of the parts may add to the bytes of a request."""
_MOST_PARTS = 16
_PLAIN = ("", "binary", "7bit", "8bit")


@dataclass(frozen=True)
class Upload:
    """A file that has come, and the fields beside it."""

    path: Path
    """`INPUT` in the folder that was given, whatever the file was called."""
    label: str
    """What it was called, as a label."""
    name: str
    """The same with the ending, for messages."""
    size: int
    """Bytes."""
    texts: dict[str, str] = field(default_factory=dict)
    """The other fields."""


class Uploads:
    """The uploads that are under way. What is too slow goes at last, and at once where another needs its place."""

    def __init__(self, most: int = MOST_UPLOADS) -> None:
        self._most = most
        self._under_way: list[_Reading] = []

    @contextlib.contextmanager
    def place(self, reading: _Reading) -> Iterator[None]:
        """A place for ``reading``; `Refused` (429) where all are taken."""
        if len(self._under_way) >= self._most:
            slow = [one for one in self._under_way if one.age > _GRACE_SECONDS and one.rate < LEAST_RATE]
            if not slow:
                raise Refused(
                    429,
                    f"{len(self._under_way)} uploads are under way, which is as many as may be; try again in a moment",
                    {"Retry-After": "10"},
                )
            slowest = min(slow, key=lambda one: one.rate)
            self._under_way.remove(slowest)
            slowest.hurry()
        self._under_way.append(reading)
        try:
            yield
        finally:
            if reading in self._under_way:
                self._under_way.remove(reading)


async def receive(
    request: web.Request,
    folder: Path,
    *,
    file: str,
    texts: Mapping[str, int],
    most_bytes: int,
    uploads: Uploads | None = None,
    total_seconds: float = TOTAL_SECONDS,
    pause_seconds: float = PAUSE_SECONDS,
) -> Upload:
    """Read a multipart request: the field ``file`` into ``folder``, and those of ``texts``, each with the most
    bytes that it may have. It takes a place among ``uploads`` until all is there.

    `Refused` for everything that is not just that: 400, 408 (too slow), 413 (too large), 415, 429 (too many at once),
    503 (disk).
    """
    if request.content_type != "multipart/form-data":
        raise Refused(415, f"send multipart/form-data with a file in it, as `curl -F {file}=@FILE` does")
    most = most_bytes + sum(texts.values()) + _FRAMING
    if request.content_length is not None and request.content_length > most:
        raise _too_large(file, most_bytes)
    try:
        async with asyncio.timeout(total_seconds):
            reading = _Reading(request, folder / INPUT, file, texts, most_bytes, pause_seconds)
            with (uploads or Uploads()).place(reading):
                return await reading.run()
    except TimeoutError as error:
        raise Refused(
            408,
            f"the upload was too slow: it may take {total_seconds:g} s, pause for {pause_seconds:g} s, and must come "
            f"with {LEAST_RATE >> 10} KiB a second on the whole",
        ) from error
    # A part without an end, a header that is too long, a connection that is gone: each has its own class.
    except (
        *(ValueError, KeyError, RuntimeError, AssertionError, ConnectionError, EOFError),
        *(HttpProcessingError, aiohttp.ClientError, web.RequestPayloadError, Warning),
    ) as error:
        raise Refused(400, "the multipart body is damaged, or the connection broke off; send it again") from error
    except OSError as error:
        raise Refused(503, f"the server cannot keep the file: {error.strerror}", {"Retry-After": "600"}) from error


class _Reading:
    """One multipart body on its way."""

    def __init__(
        self, request: web.Request, path: Path, file: str, texts: Mapping[str, int], most_bytes: int, pause: float
    ) -> None:
        self._request = request
        self._path, self._file, self._texts, self._most_bytes, self._pause = path, file, texts, most_bytes, pause
        self._found: dict[str, str] = {}
        self._upload: Upload | None = None
        self._began = monotonic()
        self._size = 0
        self._deadline = asyncio.timeout(pause)
        self._hurried = False

    @property
    def age(self) -> float:
        """Seconds since it has begun."""
        return monotonic() - self._began

    @property
    def rate(self) -> float:
        """Bytes a second that have come."""
        return self._size / max(self.age, 1e-3)

    def hurry(self) -> None:
        """End it as too slow."""
        self._hurried = True
        self._deadline.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> Upload:
        """What has come. TimeoutError where that is too slow."""
        async with self._deadline:
            return await self._run()

    async def _run(self) -> Upload:
        reader = await self._request.multipart()
        for _ in range(_MOST_PARTS):
            async with asyncio.timeout(self._pause):
                part = await _next_part(reader)
            if part is None:
                break
            await self._take(part)
        else:
            raise Refused(400, f"the request has more than {_MOST_PARTS} fields; {self._allowed()}")
        if self._upload is None:
            raise Refused(400, f"the file is missing; {self._allowed()}")
        if not self._upload.size:
            raise Refused(400, "the file is empty; choose another one")
        self._upload.texts.update(self._found)
        return self._upload

    async def _take(self, part: BodyPartReader) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # aiohttp warns of what it cannot read, and reads nothing then
            name, file_name = part.name, part.filename
        encoding = part.headers.get("Content-Transfer-Encoding", "").lower()
        if encoding not in _PLAIN or "Content-Encoding" in part.headers:
            raise Refused(415, "a field is encoded; send files as they are")
        if name == self._file:
            if self._upload is not None:
                raise Refused(400, f"there are two files; {self._allowed()}")
            size = await self._save(part)
            self._upload = Upload(self._path, label_of_file(file_name), name_of_file(file_name), size)
        elif name in self._texts:
            assert name is not None
            if name in self._found:
                raise Refused(400, f"the field {name!r} is there twice; {self._allowed()}")
            self._found[name] = await self._read(part, name)
        else:
            shown = "without a name" if name is None else repr(name[:40])
            raise Refused(400, f"there is a field {shown}; {self._allowed()}")

    async def _chunk(self, part: BodyPartReader) -> bytes:
        async with asyncio.timeout(self._pause):
            chunk = bytes(await part.read_chunk(_CHUNK))
        self._size += len(chunk)
        left = self._pause + self._size / LEAST_RATE - self.age
        if not self._hurried:
            self._deadline.reschedule(asyncio.get_running_loop().time() + left)
        return chunk

    async def _save(self, part: BodyPartReader) -> int:
        size = 0
        with self._path.open("xb") as file:
            while chunk := await self._chunk(part):
                size += len(chunk)
                if size > self._most_bytes:
                    raise _too_large(self._file, self._most_bytes)
                file.write(chunk)
        return size

    async def _read(self, part: BodyPartReader, name: str) -> str:
        data = b""
        while chunk := await self._chunk(part):
            data += chunk
            if len(data) > self._texts[name]:
                raise Refused(413, f"the field {name!r} has more than {self._texts[name]} bytes; make it shorter")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise Refused(400, f"the field {name!r} is not UTF-8 text") from error

    def _allowed(self) -> str:
        return f"send one file in the field {self._file!r}, and if you like {', '.join(self._texts)}"


async def _next_part(reader: MultipartReader) -> BodyPartReader | None:
    part = await reader.next()
    if part is not None and not isinstance(part, BodyPartReader):
        raise Refused(400, "a field holds fields of its own; send one file")
    return part


def _too_large(what: str, most_bytes: int) -> Refused:
    size = f"{most_bytes >> 20} MiB" if most_bytes >= 1 << 20 else f"{most_bytes} bytes"
    return Refused(413, f"the {what} is too large: at most {size} are taken; make it smaller first")


def check_painting(upload: Upload) -> PictureHeader:
    """The header of an uploaded picture; nothing is decoded. `Refused` (415) where it is none that is read here."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(upload.path.open("rb"))
        try:
            return read_header(file.read(), upload.name)
        except ImageError as error:
            raise Refused(415, str(error)) from error
