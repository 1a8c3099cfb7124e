"""What this machine and this installation can do, found out by trying, as plain data."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vidstyle import __version__
from vidstyle.files import cache_folder
from vidstyle.system import Cpu, Graphics, Memory, find_cpu, find_graphics, find_memory, system_name

# Nothing above may fail: a broken package is what the doctor is asked about. Everything else is
# imported where it is examined.

T = TypeVar("T")

_CORE = ("numpy", "av", "opencv-python", "openvino", "onnx", "safetensors", "click", "rich")
_OPTIONAL = ("onnxruntime", "torch", "tensorrt-rtx", "tensorrt", "cuda-python", "pyvirtualcam")
_GEFORCE = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that TensorRT-RTX knows; the others need TensorRT."""
_HARDWARE = ("nvenc", "qsv", "amf", "videotoolbox", "mf")
"""Endings of FFmpeg's hardware encoders that take frames from memory."""


@dataclass(frozen=True)
class BackendFact:
    """One inference library."""

    name: str
    """As on the command line."""
    version: str | None
    """None where it is not installed."""
    install: str
    """The command that installs it."""
    works: bool
    """It is installed, and what it runs on is here."""


@dataclass(frozen=True)
class AutoFact:
    """What ``--backend auto`` takes, as tried on a small frame."""

    name: str | None
    """The backend; None where none works."""
    description: str
    """Library, version, precision, threads; or why it does not work."""


@dataclass(frozen=True)
class EncoderFact:
    """A video encoder."""

    codec: str
    """As on the command line."""
    encoder: str
    """FFmpeg's name of it."""
    works: bool
    """Software: it is in this FFmpeg. Hardware: it is, and it opens on this machine."""


@dataclass(frozen=True)
class Codecs:
    """What PyAV's FFmpeg can do."""

    ffmpeg: str
    """Its version."""
    encoders: list[EncoderFact]
    """One for each ``--codec``."""
    hardware_encoders: list[EncoderFact]
    """Those that this FFmpeg was built with (vidstyle does not use them by itself)."""
    hardware_decoders: list[str]
    """Kinds of device that decode H.264 here."""


@dataclass(frozen=True)
class Missing:
    """Something that could be here, and how to get it."""

    what: str
    """What it is, and what it is for."""
    command: str
    """The command that brings it."""


@dataclass
class Report:
    """Everything that `examine` found. Made of plain data: `dataclasses.asdict` of it goes into JSON."""

    vidstyle: str = __version__
    """Version of vidstyle."""
    python: str = ""
    """Implementation and version."""
    system: str = ""
    """Operating system."""
    cpu: Cpu | None = None
    """The processor."""
    memory: Memory | None = None
    """Main memory."""
    gpu: Graphics | None = None
    """Graphics processors."""
    backends: list[BackendFact] = field(default_factory=list)
    """The one that ``auto`` prefers first."""
    auto: AutoFact | None = None
    """What ``auto`` really takes."""
    tensorrt: list[str] = field(default_factory=list)
    """Whether engines can be built here, for which GPUs, and whether they run here; a sentence each."""
    kernels: str | None = None
    """Instruction set of the compiled kernels; None where NumPy and OpenCV serve instead."""
    codecs: Codecs | None = None
    """Encoders and decoders."""
    packages: dict[str, str | None] = field(default_factory=dict)
    """Versions of what vidstyle uses; None where it is not installed."""
    cache: str = ""
    """Folder of the compiled models."""
    cache_bytes: int = 0
    """What is in it."""
    networks: dict[str, str] = field(default_factory=dict)
    """The shipped networks and the beginning of their digests."""
    styles: list[str] = field(default_factory=list)
    """The shipped styles."""
    missing: list[Missing] = field(default_factory=list)
    """What is not installed."""
    problems: list[str] = field(default_factory=list)
    """What could not be examined, one sentence each."""
    seconds: float = 0.0
    """How long the examination took."""

    def sections(self) -> list[tuple[str, list[str]]]:
        """Titles with their lines, for people."""
        cache = f"cache: {self.cache} ({_size(self.cache_bytes)})"
        networks = ", ".join(f"{name} ({digest})" for name, digest in self.networks.items())
        kernels = f"kernels: {f'compiled, {self.kernels}' if self.kernels else 'NumPy and OpenCV instead'}"
        packages = [
            ", ".join(f"{name} {self.packages[name] or 'missing'}" for name in names if name in self.packages)
            for names in (_CORE, _OPTIONAL)
        ]
        parts = [
            ("System", [f"vidstyle {self.vidstyle}, {self.python}", self.system]),
            ("Processor", [*_cpu_lines(self.cpu), *_memory_lines(self.memory)]),
            ("GPU", _gpu_lines(self.gpu)),
            ("Backends", [*_backend_lines(self.backends), *_auto_lines(self.auto), kernels]),
            ("TensorRT", self.tensorrt),
            ("Video", _codec_lines(self.codecs)),
            ("Packages", [line for line in packages if line]),
            ("Gallery", [f"networks: {networks or 'none'}", f"styles: {', '.join(self.styles) or 'none'}", cache]),
            ("Missing", [f"{missing.what}: {missing.command}" for missing in self.missing]),
            ("Problems", self.problems),
        ]
        return [(title, lines) for title, lines in parts if lines]


def examine() -> Report:
    """Examine machine and installation. Never raises: what fails is in `Report.problems`.

    The best backend is opened and runs a small frame, hardware encoders are opened: what the report
    says works did work. Nothing is downloaded, and torch is imported only where no other backend is there.
    """
    began = time.perf_counter()
    report = Report()

    def look(what: str, found: Callable[[], T], otherwise: T) -> T:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # OpenCV prints where NumPy is missing
                return found()
        except Exception as error:  # whatever it is, the rest of the report is still wanted
            report.problems.append(f"cannot examine the {what}: {type(error).__name__}: {error}")
            return otherwise

    report.python = look("Python", lambda: f"{platform.python_implementation()} {platform.python_version()}", "")
    report.system = look("system", system_name, "")
    report.cpu = look("processor", find_cpu, None)
    report.memory = look("memory", find_memory, None)
    report.gpu = look("GPU", find_graphics, None)
    report.backends = look("backends", _backends, [])
    report.auto = look("automatic choice of a backend", lambda: _auto(report.backends, report.problems), None)
    report.tensorrt = look("TensorRT", lambda: _tensorrt(report.gpu), [])
    report.kernels = look("compiled kernels", _kernels, None)
    report.codecs = look("codecs", _codecs, None)
    report.packages = look("packages", _packages, {})
    report.cache = look("cache", lambda: str(cache_folder("")), "")
    report.cache_bytes = look("cache", lambda: _bytes_in(cache_folder("")), 0)
    report.networks = look("networks", _networks, {})
    report.styles = look("styles", _styles, [])
    report.missing = _missing(report)
    report.seconds = time.perf_counter() - began
    return report


def _backends() -> list[BackendFact]:
    from vidstyle.backends import backend_report

    return [BackendFact(status.name, status.version, status.install, status.works) for status in backend_report()]


def _auto(backends: list[BackendFact], problems: list[str]) -> AutoFact:
    import numpy as np

    from vidstyle.backends import open_backend
    from vidstyle.frame import FrameFormat
    from vidstyle.gallery import DEFAULT_NETWORK, shared_network
    from vidstyle.models.style import Style
    from vidstyle.options import BackendOptions
    from vidstyle.stylizer import network_program

    style = Style.of("start", shared_network(DEFAULT_NETWORK))
    program, frame = (
        network_program(style.architecture, FrameFormat(height=16, width=16)),
        np.zeros((16, 16, 3), np.uint8),
    )
    broken = []
    for found in backends:
        if not found.works:
            continue
        try:
            with open_backend(program, BackendOptions(backend=found.name)) as backend:  # type: ignore[arg-type]
                backend.run((frame,), style)
                return AutoFact(backend.name, backend.description)
        except Exception as error:  # a library that is installed and broken is what people come with
            broken.append(f"{found.name} does not work: {error}")
            problems.append(broken[-1])
    commands = " or ".join(found.install for found in backends if found.version is None)
    return AutoFact(None, "; ".join(broken) or f"no inference library is installed: {commands}")


def _tensorrt(graphics: Graphics | None) -> list[str]:
    from vidstyle.backends.tensorrt.library import find_library, installed_versions

    driver = None if graphics is None else graphics.nvidia
    gpus = () if driver is None else driver.gpus
    installed = installed_versions()
    if not installed:
        extra = "tensorrt-rtx" if all(gpu.compute_capability in _GEFORCE for gpu in gpus) else "tensorrt"
        return [f"not installed: engines can be neither built nor run here; pip install 'vidstyle[{extra}]'"]
    lines = []
    for name in installed:
        library = find_library(name)
        if library.is_rtx:
            known = ", ".join(library.compute_capabilities)
            lines.append(f"{name} {library.version} builds engines here, without a GPU, for compute capability {known}")
        else:
            where = "for the GPU that is here" if gpus else "only where there is a GPU, and there is none here"
            lines.append(f"{name} {library.version} builds engines {where}")
        for gpu in gpus:
            runs = "runs engines on" if library.supports(gpu.compute_capability) else "does not know"
            lines.append(f"{name} {runs} {gpu.name} (compute capability {gpu.compute_capability})")
    if not gpus:
        lines.append("no NVIDIA GPU answers: engines built here run elsewhere, and this machine paints on the CPU")
    elif _version("cuda-python") is None:
        lines.append("engines need cuda-python to run: pip install cuda-python")
    engines = list(cache_folder("engines").glob("*.engine"))
    if engines:
        size = _size(sum(path.stat().st_size for path in engines))
        count = f"{len(engines)} engine{'s' if len(engines) > 1 else ''}"
        lines.append(f"{count} of `--backend tensorrt` in {cache_folder('engines')} ({size})")
    return lines


def _kernels() -> str | None:
    from vidstyle.imaging.resample import kernels_in_use

    return kernels_in_use()


def _codecs() -> Codecs:
    import av

    from vidstyle.video.formats import ENCODERS

    encoders = [EncoderFact(codec, e.name, e.name in av.codecs_available) for codec, e in ENCODERS.items()]
    hardware = [
        EncoderFact(codec, name, _encoder_opens(name))
        for codec in ("h264", "hevc", "av1")
        for ending in _HARDWARE
        if (name := f"{codec}_{ending}") in av.codecs_available
    ]
    return Codecs(str(av.ffmpeg_version_info), encoders, hardware, _hardware_decoders())


def _encoder_opens(name: str) -> bool:
    from fractions import Fraction

    import av

    try:
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.time_base = 640, 360, Fraction(1, 25)
        formats = [form.name for form in av.Codec(name, "w").video_formats or ()]
        context.pix_fmt = "yuv420p" if "yuv420p" in formats else "nv12"
        context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _hardware_decoders() -> list[str]:
    import av
    from av.codec.hwaccel import HWAccel, hwdevices_available

    found = []
    for device in hwdevices_available():
        try:
            HWAccel(device).create(av.Codec("h264", "r"))
        except (av.FFmpegError, NotImplementedError):
            continue
        found.append(device)
    return found


def _packages() -> dict[str, str | None]:
    return {name: _version(name) for name in (*_CORE, *_OPTIONAL)}


def _version(name: str) -> str | None:
    # The same OpenCV and ONNX Runtime come under several names.
    names = {
        "opencv-python": (name, f"{name}-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
        "onnxruntime": (name, f"{name}-gpu", f"{name}-directml", f"{name}-openvino"),
    }
    for distribution in names.get(name, (name,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # another process cleans up
            continue
    return total


def _networks() -> dict[str, str]:
    from vidstyle.models.architecture import ARCHITECTURES, NETWORK_FILE, SHIPPED, shared_network

    return {
        name: shared_network(name).digest[:12] for name in ARCHITECTURES if (SHIPPED / name / NETWORK_FILE).exists()
    }


def _styles() -> list[str]:
    from vidstyle.gallery import style_names

    return style_names()


def _missing(report: Report) -> list[Missing]:
    missing = []
    for backend in report.backends:
        if backend.version is None:
            what = "training and adapting, and the torch backend" if backend.name == "torch" else "backend"
            missing.append(Missing(f"{backend.name} ({what})", backend.install))
    known = {backend.name for backend in report.backends}
    for name in _CORE:
        if name in report.packages and report.packages[name] is None and name not in known:
            missing.append(Missing(f"{name} (vidstyle needs it)", f"pip install {name}"))
    if report.kernels is None:
        command = "pip install --force-reinstall --no-deps vidstyle"
        missing.append(Missing("compiled kernels (faster --work-size and --smooth; they need a C++ compiler)", command))
    for encoder in report.codecs.encoders if report.codecs else ():
        if not encoder.works:
            missing.append(Missing(f"{encoder.encoder} (writes {encoder.codec})", "pip install --force-reinstall av"))
    return missing


def _size(count: int) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def _cpu_lines(cpu: Cpu | None) -> list[str]:
    if cpu is None:
        return []
    marks = {True: "yes", False: "no", None: "?"}
    limit = "" if cpu.quota is None else f", limited to the time of {cpu.quota:g}"
    return [
        f"{cpu.model} ({cpu.architecture})",
        f"{cpu.usable_cores} of {cpu.cores} cores usable{limit}",
        "  ".join(f"{feature}: {marks[there]}" for feature, there in cpu.features.items()),
    ]


def _memory_lines(memory: Memory | None) -> list[str]:
    if memory is None or memory.total is None:
        return []
    free = "" if memory.available is None else f", {_size(memory.available)} available"
    return [f"{_size(memory.total)} of memory{free}"]


def _gpu_lines(gpu: Graphics | None) -> list[str]:
    if gpu is None:
        return []
    driver = gpu.nvidia
    if driver is None:
        return [gpu.trouble or "no NVIDIA driver", *gpu.others]
    return [
        f"NVIDIA driver {driver.version}, CUDA {driver.cuda}",
        *(f"{g.name}, {_size(g.memory_bytes)}, compute capability {g.compute_capability}" for g in driver.gpus),
        *gpu.others,
    ]


def _note(backend: BackendFact) -> str:
    # Measured by benchmarks/weight_inputs.py; the others lose less than a tenth.
    told = backend.name == "onnxruntime" and backend.version is not None
    return " (faster with one style: its weights are compiled in)" if told else ""


def _backend_lines(backends: list[BackendFact]) -> list[str]:
    lines = []
    for backend in backends:
        idle = "" if backend.works or backend.version is None else " (not used: there is no GPU that it knows)"
        lines.append(f"{backend.name:12} {backend.version or 'not installed'}{idle}{_note(backend)}")
    return lines


def _auto_lines(auto: AutoFact | None) -> list[str]:
    return [] if auto is None else [f"auto: {auto.description}"]


def _codec_lines(codecs: Codecs | None) -> list[str]:
    if codecs is None:
        return []
    lines = [f"FFmpeg {codecs.ffmpeg}"]
    lines += [f"{e.codec:5} {e.encoder}{'' if e.works else ': not in this FFmpeg'}" for e in codecs.encoders]
    opened = [e.encoder for e in codecs.hardware_encoders if e.works]
    lines.append(f"hardware encoders that open here: {', '.join(opened) or 'none'}")
    lines.append(f"hardware decoders that open here: {', '.join(codecs.hardware_decoders) or 'none'}")
    return lines
