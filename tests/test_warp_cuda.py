"""The pass of temporal smoothing for CUDA: it compiles for every kind of GPU, and does what the twin does."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_warp import Case, assert_equal

from vidstyle import warp_cuda
from vidstyle.errors import BadOption, MissingDependency, VidstyleError
from vidstyle.warp import U8, U16
from vidstyle.warp_cuda import CudaWarp, DeviceArray, DeviceWarp, compile_source, compiled

COMPILER = next(
    (path for name in (os.environ.get("CXX", "c++"), "g++", "clang++") if (path := shutil.which(name))), None
)
ARCHITECTURES = ("sm_80", "sm_89", "sm_90", "sm_120")


def has_nvrtc() -> bool:
    try:
        warp_cuda._version()
    except MissingDependency:
        return False
    return True


HAS_NVRTC = has_nvrtc()
needs_nvrtc = pytest.mark.skipif(not HAS_NVRTC, reason="NVRTC is not installed")


def sources() -> dict[str, bytes]:
    return {name: (warp_cuda._folder() / name).read_bytes() for name in warp_cuda._SOURCES}


# --- compilation ---


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_compiles_without_a_warning_and_without_spills(architecture: str) -> None:
    code, said = compile_source(sources(), architecture, "--ptxas-options=-v")
    assert code.startswith(b"\x7fELF")
    assert b"warp_blend" in code
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in said
    assert "warning" not in said.lower()
    registers = re.search(r"Used (\d+) registers", said)
    assert registers and int(registers[1]) <= 64  # 1024 threads a multiprocessor, or more


@needs_nvrtc
def test_a_warning_is_an_error_and_names_its_line() -> None:
    wrong = sources()
    wrong["warp.cu"] += b"\n__device__ int unused_result() { int unused; }\n"
    with pytest.raises(VidstyleError, match=r"cannot compile warp\.cu for sm_90: warp\.cu\(\d+\)"):
        compile_source(wrong, "sm_90")


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["sm_10", "compute_90", "", "sm_90 -G"])
def test_unknown_architectures_are_refused_with_those_there_are(architecture: str) -> None:
    with pytest.raises(BadOption, match="compiles for .*sm_90"):
        compiled(architecture)


@needs_nvrtc
def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path))
    first = compiled("sm_89")
    (kept,) = tmp_path.rglob("*.cubin")
    assert kept.read_bytes() == first
    kept.write_bytes(b"as it was kept")
    assert compiled("sm_89") == b"as it was kept"
    assert compiled("sm_90").startswith(b"\x7fELF")
    assert len(list(tmp_path.rglob("*"))) == 3  # the folder and two files


@needs_nvrtc
def test_other_sources_are_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path / "home"))
    compiled("sm_90")
    shutil.copytree(warp_cuda._folder(), tmp_path / "kernels")
    with (tmp_path / "kernels" / "warp.h").open("a") as header:
        header.write("// changed\n")
    monkeypatch.setattr(warp_cuda, "_folder", lambda: tmp_path / "kernels")
    compiled("sm_90")
    assert len(list(tmp_path.rglob("*.cubin"))) == 2


@needs_nvrtc
def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path / "file"))
    assert compiled("sm_90").startswith(b"\x7fELF")


@pytest.mark.skipif(HAS_NVRTC, reason="NVRTC is installed")
def test_without_nvrtc_the_message_says_what_to_install() -> None:
    with pytest.raises(MissingDependency, match="pip install nvidia-cuda-nvrtc"):
        compiled("sm_90")


# --- on this machine's processor ---

# The threads of a block are threads, blocks come one after the other, and a barrier is a barrier.
HOST = """
#include <pthread.h>
#include <thread>
#include <vector>
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
struct Index { unsigned x, y, z; };
static thread_local Index threadIdx, blockIdx;
static pthread_barrier_t barrier;
static void __syncthreads() { pthread_barrier_wait(&barrier); }
#include "warp.cu"
extern "C" unsigned long size_of_plane() { return sizeof(Plane); }
extern "C" void run(const Plane* plane, unsigned across, unsigned down, unsigned channels) {
  pthread_barrier_init(&barrier, nullptr, kAcross * kDown);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kAcross * kDown; ++i)
    threads.emplace_back([=] {
      threadIdx = {i % kAcross, i / kAcross, 0};
      for (unsigned block = 0; block < across * down * channels; ++block) {
        blockIdx = {block % across, block / across % down, block / across / down};
        warp_blend(*plane);
        __syncthreads();
      }
    });
  for (std::thread& thread : threads) thread.join();
  pthread_barrier_destroy(&barrier);
}
"""


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if COMPILER is None or os.name != "posix" or not hasattr(os, "sched_yield"):
        pytest.skip("no C++ compiler, or no POSIX barriers")
    folder = tmp_path_factory.mktemp("host")
    (folder / "host.cpp").write_text(HOST)
    command = [COMPILER, "-std=c++17", "-O1", "-pthread", "-shared", "-fPIC", f"-I{warp_cuda._folder()}"]
    subprocess.run([*command, "host.cpp", "-o", "host.so"], cwd=folder, check=True, timeout=60)
    return ctypes.CDLL(str(folder / "host.so"))


def described(array: NDArray[Any]) -> DeviceArray:
    strides = array.strides
    return DeviceArray(array.ctypes.data, strides[0], strides[1], strides[2] if array.ndim == 3 else 0)


def arguments(case: Case, shown: U8, updated: U16) -> DeviceWarp:
    height, width, *channels = case.new.shape
    return DeviceWarp(
        shape=(height, width, *channels) if channels else (height, width, 1),  # type: ignore[arg-type]
        small=case.weight.shape,
        new=described(case.new),
        memory=described(case.memory),
        flow=described(case.flow),
        weight=described(case.weight),
        gain=case.gain,
        shown=described(shown),
        updated=described(updated),
    )


def test_both_sides_agree_on_the_arguments(on_host: ctypes.CDLL) -> None:
    on_host.size_of_plane.restype = ctypes.c_ulong
    assert on_host.size_of_plane() == warp_cuda._PLANE.itemsize


@pytest.mark.parametrize("shape", [(1, 1), (9, 33), (17, 70, 3), (24, 40, 2), (8, 32), (5, 12, 4)])
@pytest.mark.parametrize("gain", [0.0, 1.4])
def test_its_source_does_what_the_twin_does(on_host: ctypes.CDLL, shape: tuple[int, ...], gain: float) -> None:
    for seed, reach in enumerate((0.0, 3.0, 40.0)):
        case = Case(shape, (4, 7), seed=seed, reach=reach)
        case.gain = gain
        if seed == 1:
            case.flow[0, 0], case.flow[1, 1], case.weight[1, 2] = np.nan, np.inf, np.nan
        if seed == 2:
            room = np.zeros((shape[0] + 3, 2 * shape[1] + 5, *shape[2:]), np.uint8)
            room[1:-2, 3 : 3 + 2 * shape[1] : 2] = case.new
            case.new = room[1:-2, 3 : 3 + 2 * shape[1] : 2]
        shown, updated = np.zeros(shape, np.uint8), np.zeros_like(case.memory)
        warp = arguments(case, shown, updated)
        plane = warp.packed()
        blocks = (-(-shape[1] // 32), -(-shape[0] // 8), warp.shape[2])
        on_host.run(ctypes.c_void_p(plane.ctypes.data), *map(ctypes.c_uint, blocks))
        assert_equal((shown, updated), case.run("twin"))


GOOD = DeviceWarp(
    shape=(4, 6, 1),
    small=(2, 3),
    new=DeviceArray(1, 6, 1),
    memory=DeviceArray(2, 12, 2),
    flow=DeviceArray(4, 24, 8),
    weight=DeviceArray(4, 12, 4),
    gain=1.0,
    shown=DeviceArray(1, 6, 1),
    updated=DeviceArray(2, 12, 2),
)


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("1 to 4 channels", lambda: replace(GOOD, shape=(4, 0, 1))),
        ("1 to 4 channels", lambda: replace(GOOD, shape=(4, 6, 5))),
        ("1 to 4 channels", lambda: replace(GOOD, small=(0, 3))),
        ("gain is nan", lambda: replace(GOOD, gain=float("nan"))),
        ("memory .* 2 bytes apart", lambda: replace(GOOD, memory=DeviceArray(2, 24, 4))),
        ("updated .* multiple of 2", lambda: replace(GOOD, updated=DeviceArray(3, 12, 2))),
        ("flow .* 8 bytes apart", lambda: replace(GOOD, flow=DeviceArray(4, 24, 4))),
        ("weight .* multiple of 4", lambda: replace(GOOD, weight=DeviceArray(4, 13, 4))),
    ],
)
def test_arrays_that_do_not_fit_are_refused(words: str, change: Callable[[], DeviceWarp]) -> None:
    with pytest.raises(BadOption, match=words):
        change()


# --- on a GPU ---


@pytest.mark.needs_cuda
@pytest.mark.parametrize("shape", [(1, 1), (9, 33), (181, 322, 3), (90, 161, 2), (720, 1280)])
def test_it_does_on_a_gpu_what_the_twin_does(shape: tuple[int, ...]) -> None:
    from vidstyle.backends.tensorrt.cuda import open_gpu

    device = open_gpu(0)
    with device.current():
        stream = device.stream()
        blocks = []

        def on_device(array: NDArray[Any]) -> DeviceArray:
            flat = np.frombuffer(
                array.tobytes("A") if array.ndim == 2 else np.moveaxis(array, 2, 0).tobytes(), np.uint8
            )
            block = device.memory(flat.size)
            blocks.append(block)
            stream.upload(block.pointer, flat.ctypes.data, flat.size)
            stream.synchronize()
            height, width = array.shape[:2]
            return DeviceArray(block.pointer, width * array.itemsize, array.itemsize, height * width * array.itemsize)

        def back(array: DeviceArray, like: NDArray[Any]) -> NDArray[Any]:
            planar = np.empty(like.shape[2:] + like.shape[:2], like.dtype)
            stream.download(planar.ctypes.data, array.pointer, planar.nbytes)
            stream.synchronize()
            return planar if like.ndim == 2 else np.moveaxis(planar, 0, 2)

        with CudaWarp() as kernel:
            for seed, reach in enumerate((0.0, 3.0, 40.0)):
                case = Case(shape, (4, 7), seed=seed, reach=reach)
                shown, updated = on_device(np.zeros(shape, np.uint8)), on_device(np.zeros(shape, np.uint16))
                flow = on_device(np.ascontiguousarray(case.flow).reshape(4, 14))
                warp = DeviceWarp(
                    shape=(*shape, 1)[:3],  # type: ignore[arg-type]
                    small=(4, 7),
                    new=on_device(case.new),
                    memory=on_device(case.memory),
                    flow=DeviceArray(flow.pointer, 7 * 8, 8),
                    weight=on_device(case.weight),
                    gain=case.gain,
                    shown=shown,
                    updated=updated,
                )
                kernel.launch(stream.handle, warp)
                stream.synchronize()
                assert_equal((back(shown, case.new), back(updated, case.memory)), case.run("twin"))
        with pytest.raises(VidstyleError, match="closed"):
            kernel.launch(stream.handle, warp)
        for block in blocks:
            block.close()
        stream.close()
    device.close()
