"""What this machine and this installation can do, found out by trying, as plain data and as lines for people."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidstyle import __version__
from vidstyle.files import cache_folder
from vidstyle.system import Gpu, find_cpu, find_graphics, find_memory, system_name

# Nothing above may fail: a broken package is what the doctor is asked about. Everything else is
# imported where it is examined.

_CORE = ("numpy", "av", "opencv-python", "openvino", "onnx", "safetensors", "click", "rich")
_OPTIONAL = ("tensorrt-rtx", "tensorrt", "cuda-python", "pyvirtualcam")
_GEFORCE = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that TensorRT-RTX knows; the others need TensorRT."""
_HARDWARE = ("nvenc", "qsv", "amf", "videotoolbox", "mf")
"""Endings of FFmpeg's hardware encoders that take frames from memory."""
_EMPTY: dict[str, Any] = {
    "vidstyle": __version__, "python": "", "system": "", "cpu": None, "memory": None, "gpu": None, "backends": (),
    "auto": None, "openvino": (), "tensorrt": (), "kernels": None, "codecs": None, "packages": {},
    "cache": "", "cache_bytes": 0, "networks": {}, "styles": (), "missing": (), "problems": (), "seconds": 0.0,
}  # fmt: skip


class Report:
    def __init__(self) -> None:
        self.facts: dict[str, Any] = {key: list(v) if v == () else v for key, v in _EMPTY.items()}
        """What goes into JSON; a key whose examination failed is empty."""
        self._lines: dict[str, list[str]] = {}

    def add(self, title: str, *lines: str) -> None:
        """Show ``lines`` in the section called ``title``."""
        self._lines.setdefault(title, []).extend(line for line in lines if line)

    def miss(self, what: str, command: str) -> None:
        """Note what is not installed, and the command that brings it."""
        self.facts["missing"].append({"what": what, "command": command})

    def sections(self) -> list[tuple[str, list[str]]]:
        """Titles with their lines, for people."""
        missing = [f"{missing['what']}: {missing['command']}" for missing in self.facts["missing"]]
        parts = [*self._lines.items(), ("Missing", missing), ("Problems", self.facts["problems"])]
        return [(title, lines) for title, lines in parts if lines]


def examine() -> Report:
    """Examine machine and installation. Never raises: what fails is among the problems.

    The best backend is opened and runs a small frame, hardware encoders are opened: what the report
    says works did work. Nothing is downloaded, and torch is imported only where no other backend is there.
    """
    began = time.perf_counter()
    report = Report()
    for what, examination in _EXAMINATIONS.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # OpenCV prints where NumPy is missing
                examination(report)
        except Exception as error:  # whatever it is, the rest of the report is still wanted
            report.facts["problems"].append(f"cannot examine the {what}: {type(error).__name__}: {error}")
    report.facts["seconds"] = time.perf_counter() - began
    return report


def _system(report: Report) -> None:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    report.facts |= {"python": python, "system": system_name()}
    report.add("System", f"vidstyle {__version__}, {python}", report.facts["system"])


def _processor(report: Report) -> None:
    cpu = find_cpu()
    report.facts["cpu"] = asdict(cpu)
    marks = {True: "yes", False: "no", None: "?"}
    limit = "" if cpu.quota is None else f", limited to the time of {cpu.quota:g}"
    features = "  ".join(f"{feature}: {marks[there]}" for feature, there in cpu.features.items())
    cores = f"{cpu.usable_cores} of {cpu.cores} cores usable{limit}"
    report.add("Processor", f"{cpu.model} ({cpu.architecture})", cores, features)


def _memory(report: Report) -> None:
    memory = find_memory()
    report.facts["memory"] = asdict(memory)
    if memory.total is not None:
        free = "" if memory.available is None else f", {_size(memory.available)} available"
        report.add("Processor", f"{_size(memory.total)} of memory{free}")


def _graphics(report: Report) -> None:
    gpu = find_graphics()
    report.facts["gpu"] = asdict(gpu)
    if gpu.nvidia is None:
        report.add("GPU", gpu.trouble or "no NVIDIA driver", *gpu.others)
        return
    found = [f"{g.name}, {_size(g.memory_bytes)}, compute capability {g.compute_capability}" for g in gpu.nvidia.gpus]
    report.add("GPU", f"NVIDIA driver {gpu.nvidia.version}, CUDA {gpu.nvidia.cuda}", *found, *gpu.others)


def _backends(report: Report) -> None:
    from vidstyle.backends import backend_report

    for backend in backend_report():
        report.facts["backends"].append(asdict(backend))
        note = ""
        if backend.version is None:
            what = "training and adapting, and the torch backend" if backend.name == "torch" else "backend"
            report.miss(f"{backend.name} ({what})", backend.install)
        elif not backend.works:
            note = " (not used: there is no GPU that it knows)"
        elif backend.name == "onnxruntime":  # measured by benchmarks/weight_inputs.py; others lose less than a tenth
            note = " (faster with one style: its weights are compiled in)"
        report.add("Backends", f"{backend.name:12} {backend.version or 'not installed'}{note}")


def _auto(report: Report) -> None:
    name, description = _first_that_works(report)
    report.facts["auto"] = {"name": name, "description": description}
    report.add("Backends", f"auto: {description}")


def _openvino(report: Report) -> None:
    if any(backend["name"] == "openvino" and backend["works"] for backend in report.facts["backends"]):
        from vidstyle.backends.openvino import openvino_lines

        report.facts["openvino"] = openvino_lines()
        report.add("Backends", *report.facts["openvino"])


def _first_that_works(report: Report) -> tuple[str | None, str]:
    """What ``--backend auto`` takes, as tried on a small frame: its name, and what it is or why there is none."""
    import numpy as np

    from vidstyle.backends import open_backend
    from vidstyle.frame import FrameFormat
    from vidstyle.gallery import DEFAULT_NETWORK, shared_network
    from vidstyle.models.style import Style
    from vidstyle.options import BackendOptions
    from vidstyle.stylizer import network_program

    style = Style.of("start", shared_network(DEFAULT_NETWORK))
    program = network_program(style.architecture, FrameFormat(height=16, width=16))
    broken = []
    for found in report.facts["backends"]:
        if not found["works"]:
            continue
        try:
            with open_backend(program, BackendOptions(backend=found["name"])) as backend:
                backend.run((np.zeros((16, 16, 3), np.uint8),), style)
                return backend.name, backend.description
        except Exception as error:  # a library that is installed and broken is what people come with
            broken.append(f"{found['name']} does not work: {error}")
            report.facts["problems"].append(broken[-1])
    commands = " or ".join(found["install"] for found in report.facts["backends"] if found["version"] is None)
    return None, "; ".join(broken) or f"no inference library is installed: {commands}"


def _kernels(report: Report) -> None:
    from vidstyle.imaging.resample import kernels_in_use

    kernels = report.facts["kernels"] = kernels_in_use()
    report.add("Backends", f"kernels: {f'compiled, {kernels}' if kernels else 'left out, which is slower'}")
    if kernels is None:
        command = "pip install --force-reinstall --no-deps vidstyle"
        report.miss("compiled kernels (faster --work-size, --smooth and adapt; they need a C++ compiler)", command)


def _tensorrt(report: Report) -> None:
    gpus = ((report.facts["gpu"] or {}).get("nvidia") or {}).get("gpus", ())
    lines = report.facts["tensorrt"] = tensorrt_lines([Gpu(**gpu) for gpu in gpus])
    report.add("TensorRT", *lines)


def tensorrt_lines(gpus: Sequence[Gpu]) -> list[str]:
    """Whether engines can be built here, for which GPUs, and whether they run on ``gpus``; a sentence each."""
    from vidstyle.backends.tensorrt.sdk import find_library, installed_versions

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


def _codecs(report: Report) -> None:
    import av
    from av.codec.hwaccel import HWAccel, hwdevices_available

    from vidstyle.video.formats import ENCODERS

    encoders: list[dict[str, Any]] = []
    for codec, encoder in ENCODERS.items():
        works = encoder.name in av.codecs_available
        encoders.append({"codec": codec, "encoder": encoder.name, "works": works})
        if not works:
            report.miss(f"{encoder.name} (writes {codec})", "pip install --force-reinstall av")
    hardware: list[dict[str, Any]] = [
        {"codec": codec, "encoder": name, "works": _encoder_opens(name)}
        for codec in ("h264", "hevc", "av1")
        for ending in _HARDWARE
        if (name := f"{codec}_{ending}") in av.codecs_available
    ]
    decoders = []
    for device in hwdevices_available():
        with contextlib.suppress(av.FFmpegError, NotImplementedError):
            HWAccel(device).create(av.Codec("h264", "r"))
            decoders.append(device)
    ffmpeg = str(av.ffmpeg_version_info)
    facts = {"ffmpeg": ffmpeg, "encoders": encoders, "hardware_encoders": hardware, "hardware_decoders": decoders}
    report.facts["codecs"] = facts
    opened = [e["encoder"] for e in hardware if e["works"]]
    report.add(
        "Video",
        f"FFmpeg {ffmpeg}",
        *(f"{e['codec']:5} {e['encoder']}{'' if e['works'] else ': not in this FFmpeg'}" for e in encoders),
        f"hardware encoders that open here: {', '.join(opened) or 'none'}",
        f"hardware decoders that open here: {', '.join(decoders) or 'none'}",
    )


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


def _packages(report: Report) -> None:
    backends = {backend["name"]: backend["version"] for backend in report.facts["backends"]}
    packages = {name: _version(name) for name in _CORE} | backends | {name: _version(name) for name in _OPTIONAL}
    report.facts["packages"] = packages
    for name in _CORE:
        if packages[name] is None and name not in backends:
            report.miss(f"{name} (vidstyle needs it)", f"pip install {name}")
    for names in (_CORE, [name for name in packages if name not in _CORE]):
        report.add("Packages", ", ".join(f"{name} {packages[name] or 'missing'}" for name in names))


def _version(name: str) -> str | None:
    others = (f"{name}-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    for distribution in (name, *(others if name == "opencv-python" else ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None


def _networks(report: Report) -> None:
    from vidstyle.models.architecture import ARCHITECTURES, NETWORK_FILE, SHIPPED, shared_network

    shipped = [name for name in ARCHITECTURES if (SHIPPED / name / NETWORK_FILE).exists()]
    networks = report.facts["networks"] = {name: shared_network(name).digest[:12] for name in shipped}
    report.add("Gallery", f"networks: {', '.join(f'{n} ({digest})' for n, digest in networks.items()) or 'none'}")


def _styles(report: Report) -> None:
    from vidstyle.gallery import style_names

    report.facts["styles"] = style_names()
    report.add("Gallery", f"styles: {', '.join(report.facts['styles']) or 'none'}")


def _cache(report: Report) -> None:
    cache = cache_folder("")
    size = _bytes_in(cache)
    report.facts |= {"cache": str(cache), "cache_bytes": size}
    report.add("Gallery", f"cache: {cache} ({_size(size)})")


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process cleans up
            total += path.stat().st_size if path.is_file() else 0
    return total


def _size(count: int) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


_EXAMINATIONS: dict[str, Callable[[Report], None]] = {
    "system": _system, "processor": _processor, "memory": _memory, "GPU": _graphics, "backends": _backends,
    "automatic choice of a backend": _auto, "OpenVINO": _openvino, "compiled kernels": _kernels,
    "TensorRT": _tensorrt, "codecs": _codecs, "packages": _packages, "networks": _networks, "styles": _styles,
    "cache": _cache,
}  # fmt: skip
"""What is examined, in the order of the report, as a message names it."""
