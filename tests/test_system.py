"""The NVIDIA driver's library is asked by its C interface."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vidstyle.system import Gpu, GpuDriver, nvidia_driver

# The functions of nvml.h that are called, with its types.
DRIVER = r"""
#include <stdio.h>
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *v, unsigned n) { return snprintf(v, n, "580.65.06") < 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 13010; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
static int devices[2];
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = &devices[i]; return i > 1; }
int nvmlDeviceGetName(void *d, char *v, unsigned n) { return snprintf(v, n, "GPU %d", d == &devices[1]) < 0; }
int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *m) { m[0] = 85899345920ull; m[1] = m[2] = 1; return d == 0; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) { *major = 9; *minor = 0; return d == 0; }
"""


def library(folder: Path, init: int) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (folder / "nvml.c").write_text(DRIVER)
    made = folder / f"libnvml{init}.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-DINIT={init}", "nvml.c", "-o", made.name], cwd=folder, check=True, timeout=60
    )
    return str(made)


def test_a_machine_without_a_driver_has_none() -> None:
    assert nvidia_driver("libno-such-driver.so.1") is None


def test_the_driver_s_answers_are_read(tmp_path: Path) -> None:
    gpus = tuple(Gpu(f"GPU {index}", 80 << 30, "9.0") for index in range(2))
    assert nvidia_driver(library(tmp_path, 0)) == GpuDriver("580.65.06", "13.1", gpus)


def test_a_driver_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the NVIDIA driver does not answer: Driver Not Loaded"):
        nvidia_driver(library(tmp_path, 9))


def test_a_library_that_is_no_driver_is_a_sentence() -> None:
    with pytest.raises(OSError, match="too old: it has no nvmlInit_v2"):
        nvidia_driver("libc.so.6")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("keep", [False, True])
def test_freed_memory_stays_where_that_is_asked_for(keep: bool) -> None:
    script = f"""
import resource
import numpy as np
from vidstyle.system import keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
if {keep}:
    keep_freed_memory()
before = resident()
array = np.ones(1 << 26, np.uint8)
del array
print((resident() - before) >> 20)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 60) == keep
