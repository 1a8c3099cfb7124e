"""Pictures for training: paintings as style targets, photos as random crops that depend on seed and step alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar, overload

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidstyle.data import PHOTOS
from vidstyle.errors import BadOption, ImageError
from vidstyle.files import as_path
from vidstyle.frame import as_rgb
from vidstyle.imaging.image_io import FORMATS, Still, read_opaque
from vidstyle.pipeline import Closing
from vidstyle.training.loss import Content, Perceptual

T = TypeVar("T")

MAX_PICTURE_BYTES = 256 << 20
SMALLEST_PICTURE = 16
"""Pixels a side below which a picture has neither strokes nor content."""
KEPT_PICTURE_BYTES = 4 << 30
"""Decoded pictures of a folder that are kept in memory: some 6,000 for crops of 256 pixels."""
SMALLEST_CROP = 0.6
"""Random crops are squares of this share of a photo's shorter side, or more."""
KEPT_BYTES = 1 << 30
"""Statistics of paintings kept in memory: some 1,500 paintings in bf16."""


def read_painting(path: Path | str) -> Still:
    """The picture in ``path``, upright, transparent parts laid on white; `Still.notes` say what became of it.

    `ImageError` names the file and what is wrong with it.
    """
    path = as_path(path, "painting")
    still = read_opaque(path, max_bytes=MAX_PICTURE_BYTES)
    height, width = still.size
    if min(height, width) < SMALLEST_PICTURE:
        raise ImageError(f"{path} is {width}x{height} pixels; it needs at least {SMALLEST_PICTURE} on each side")
    return still


def read_picture(path: Path | str) -> NDArray[np.uint8]:
    """What `read_painting` gives, as RGB of shape (height, width, 3)."""
    return read_painting(path).rgb


def painting_tensor(rgb: NDArray[np.uint8], shorter_side: int) -> Tensor:
    """A painting as float RGB in [0, 1] of shape (1, 3, H, W), scaled to a shorter side of ``shorter_side``.

    Stroke size follows from it: strokes are learned as large as they are in this picture.
    The longer side is cropped to three times the shorter one, in the middle.
    """
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = max(0, height - 3 * side) // 2, max(0, width - 3 * side) // 2
    rgb = rgb[top : top + 3 * side, left : left + 3 * side]
    height, width = (round(s * shorter_side / side) for s in rgb.shape[:2])
    return _tensor([_resize(rgb, (height, width))])


class PictureFolder(Sequence[NDArray[np.uint8]]):
    """The pictures of a folder and of those below it, as uint8 RGB (height, width, 3), sorted by path.

    Each is decoded when it is asked for, shrunk to a shorter side of ``shorter_side`` and kept, as long
    as all that is kept stays below ``keep_bytes``: a pass over a small folder decodes every file once. One
    that cannot be decoded is skipped: the next one that can stands in for it, and `skipped` says why.
    """

    def __init__(
        self, paths: Sequence[Path], *, shorter_side: int | None = None, keep_bytes: int = KEPT_PICTURE_BYTES
    ) -> None:
        self.paths = list(paths)
        self.skipped: dict[Path, str] = {}
        """What could not be decoded so far, and why, one sentence each."""
        self.notes: dict[Path, str] = {}
        """What else is to be said of pictures so far: transparent parts that were laid on white, say."""
        self._shorter_side = shorter_side
        self._room = keep_bytes
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.uint8]]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        for other in range(index, index + len(self)):
            picture = self._read(other % len(self))
            if picture is not None:
                return picture
        path, reason = next(iter(self.skipped.items()))
        raise ImageError(f"none of the {len(self)} pictures in {path.parent} can be read; the first: {reason}")

    def _read(self, index: int) -> NDArray[np.uint8] | None:
        if index in self._kept:
            return self._kept[index]
        path = self.paths[index]
        if path in self.skipped:
            return None
        try:
            still = read_painting(path)
        except ImageError as error:
            self.skipped[path] = str(error)
            return None
        if still.notes:
            self.notes[path] = "; ".join(still.notes)
        picture = still.rgb
        side = min(picture.shape[:2])
        if self._shorter_side and side > self._shorter_side:
            height, width = (round(s * self._shorter_side / side) for s in picture.shape[:2])
            picture = _resize(picture, (height, width))
        if picture.nbytes <= self._room:
            self._room -= picture.nbytes
            self._kept[index] = picture
        return picture

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the files' names and sizes."""
        sha = hashlib.sha256()
        for path in self.paths:
            sha.update(f"{path.name} {path.stat().st_size}\n".encode())
        return sha.hexdigest()


class Photos:
    """Content photos, from which crops are taken."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        if not len(pictures):
            raise BadOption("there are no content photos; give at least one")
        folder = isinstance(pictures, PictureFolder)
        self.pictures = pictures if folder else [as_rgb(picture, "photo") for picture in pictures]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all pixels; of a folder's, of names and sizes."""
        if isinstance(self.pictures, PictureFolder):
            return self.pictures.digest
        sha = hashlib.sha256()
        for picture in self.pictures:
            sha.update(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes())
        return sha.hexdigest()

    @classmethod
    def in_folder(cls, folder: Path | str, *, shorter_side: int | None = None) -> Photos:
        """The pictures in ``folder`` and below, see `PictureFolder`."""
        return cls(PictureFolder(picture_paths(as_path(folder, "folder")), shorter_side=shorter_side))

    @classmethod
    def shipped(cls) -> Photos:
        """The photos that come with vidstyle."""
        return cls.in_folder(PHOTOS)

    def batch(self, count: int, size: int, seed: Sequence[int]) -> Tensor:
        """``count`` random square crops, some mirrored, as float RGB (count, 3, size, size) in [0, 1].

        The same ``seed`` (for instance run and step) gives the same crops: nothing has to be
        remembered to continue a run.
        """
        random = np.random.default_rng(list(seed))
        crops = []
        for index in random.integers(len(self.pictures), size=count):
            picture = self.pictures[index]
            shorter = min(picture.shape[:2])
            side = max(1, round(shorter * random.uniform(SMALLEST_CROP, 1.0)))
            top, left = (random.integers(s - side + 1) for s in picture.shape[:2])
            crop = _resize(picture[top : top + side, left : left + side], (size, size))
            crops.append(crop[:, ::-1] if random.random() < 0.5 else crop)
        return _tensor(crops)

    def middles(self, size: int, count: int | None = None) -> Tensor:
        """The middle square of every photo (or the first ``count``), float RGB (photos, 3, size, size): a fixed
        set to measure on."""
        crops = []
        for picture in self.pictures[:count]:
            height, width = picture.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            crops.append(_resize(picture[top : top + side, left : left + side], (size, size)))
        return _tensor(crops)


class Crops:
    """``count`` crops of ``size`` pixels, each with its `Perceptual.content_target`.

    A quarter of a step's arithmetic is the content of its photos; a crop that comes again brings it along. Both are
    kept on the perceptual loss's device: at 192 pixels 1.6 MB a crop in bf16.
    """

    def __init__(self, photos: Photos, perceptual: Perceptual, *, size: int, count: int, seed: int) -> None:
        self._photos, self._perceptual = photos, perceptual
        self._size, self._count, self._seed = size, count, seed
        self._kept: dict[int, tuple[Tensor, Content]] = {}

    def batch(self, count: int, seed: Sequence[int]) -> tuple[Tensor, Content]:
        """``count`` crops, float RGB (count, 3, size, size) in [0, 1], and their content targets; the same ``seed``
        gives the same ones."""
        chosen = np.random.default_rng(list(seed)).integers(self._count, size=count)
        photos, contents = zip(*(self._crop(int(number)) for number in chosen), strict=True)
        return torch.cat(photos), Content(*(torch.cat(parts) for parts in zip(*contents, strict=True)))

    def _crop(self, number: int) -> tuple[Tensor, Content]:
        if number not in self._kept:
            photo = self._photos.batch(1, self._size, (self._seed, number)).to(self._perceptual.place)
            self._kept[number] = photo, self._perceptual.content_target(photo)
        return self._kept[number]


class Paintings:
    """The pictures of a folder, ``size`` pixels at their shorter side; see `PictureFolder`."""

    def __init__(self, folder: Path, size: int, perceptual: Perceptual) -> None:
        self.pictures = PictureFolder(picture_paths(folder), shorter_side=size, keep_bytes=0)
        self._size, self.perceptual = size, perceptual
        self._kept: dict[int, list[Tensor]] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.pictures)

    def targets(self, indices: Sequence[int]) -> list[Tensor]:
        """`Perceptual.style_target` of some paintings: float32, of len(indices)."""
        layers = zip(*(self._target(index) for index in indices), strict=True)
        return [torch.cat(layer).float() for layer in layers]

    def thumbnail(self, index: int, size: int) -> Tensor:
        """The middle square of a painting, float RGB (1, 3, size, size)."""
        return Photos([self.pictures[index]]).middles(size)

    def _target(self, index: int) -> list[Tensor]:
        if index in self._kept:
            return self._kept[index]
        vgg = self.perceptual
        painting = painting_tensor(self.pictures[index], self._size).to(vgg.place)
        statistics = [s.to(vgg.dtype) for s in vgg.style_target(painting)]
        taken = sum(s.nbytes for s in statistics)
        if taken <= self._room:
            self._room -= taken
            self._kept[index] = statistics
        return statistics


def shown(step: int, count: int, paintings: int, seed: int) -> list[int]:
    """Which of ``paintings`` step number ``step`` sees: each once in every pass, in an order of its own."""
    indices = []
    for position in range(step * count, (step + 1) * count):
        order = np.random.default_rng([seed, position // paintings, 1]).permutation(paintings)
        indices.append(int(order[position % paintings]))
    return indices


class Prefetcher(Closing, Generic[T]):
    """Calls ``make(step)`` one step ahead, on a thread of its own, until it is closed."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vidstyle-prefetch")
        self._pending: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        """What ``make`` returns for ``step``; begins with the step after it."""
        if self._pending is None or self._pending[0] != step:
            self._pending = step, self._pool.submit(self._make, step)
        result = self._pending[1].result()
        self._pending = step + 1, self._pool.submit(self._make, step + 1)
        return result

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)


def picture_paths(folder: Path) -> list[Path]:
    """The picture files in ``folder`` and below, sorted; `ImageError` when there are none."""
    if not folder.is_dir():
        raise ImageError(f"cannot read the folder {folder}: it is not there, or not a folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
    if not paths:
        raise ImageError(f"{folder} holds no pictures; put JPEG, PNG, WebP, BMP or TIFF files there")
    return paths


def _resize(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if rgb.shape[:2] == size:
        return rgb
    shrinks = size[0] < rgb.shape[0]
    resized = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


def _tensor(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    stacked = torch.from_numpy(np.stack(pictures))  # (N, H, W, 3): the memory of channels_last
    return stacked.permute(0, 3, 1, 2).float() / 255.0
