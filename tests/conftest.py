"""What every test has: no thread left behind, caches and output under the test's own folder."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import vidstyle.video  # noqa: F401  before any test imports PyAV and OpenCV: see `share_libxcb`
from vidstyle.system import nvidia_gpus

ASYNC_TEST_SECONDS = 220.0


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it runs in the background with Ctrl-C ignored, `nohup` with SIGHUP, and so would be what
    # the tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), ASYNC_TEST_SECONDS))
    return True


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled models go to a folder that the whole run shares, not to the user's cache."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    monkeypatch.setenv("VIDSTYLE_HOME", str(base / "home"))


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """A test that leaves one of our threads running has failed."""
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith("vidstyle-")]
    assert not left, f"threads left running: {left}"


@pytest.fixture(autouse=True)
def same_scheduling() -> Iterator[None]:
    """A test that leaves this thread a real-time one has failed: all that comes later would starve the machine."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    before, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    after = os.sched_getscheduler(0)
    if after != before:
        os.sched_setscheduler(0, before, priority)
    assert after == before, f"the scheduling policy is {after}, and was {before}"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every graph that OpenVINO compiles or reads back from here on."""
    from vidstyle.backends import openvino

    done: list[str] = []
    compile_graph = openvino._compile

    def counted(*arguments: Any) -> Any:
        done.append("compiled")
        return compile_graph(*arguments)

    monkeypatch.setattr(openvino, "_compile", counted)
    return done


@pytest.fixture
def one_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paintings are adapted on one small photo: it is quick, and the style is of no account."""
    data = pytest.importorskip("vidstyle.training.data", reason="torch is not installed")
    from pictures import photo

    from vidstyle.training import adapt

    monkeypatch.setattr(data.Photos, "shipped", classmethod(lambda photos: photos([photo(0)])))

    @dataclass(frozen=True, kw_only=True)
    class Small(adapt.AdaptOptions):
        size: int = 32
        style_size: int = 32
        batch: int = 1

    monkeypatch.setattr(adapt, "AdaptOptions", Small)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    without_gpu = not os.environ.get("FAIL_WITHOUT_CUDA") and not has_gpu()
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
        if "needs_cuda" in item.keywords and without_gpu:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))


def run_python(code: str, *words: object, cwd: Path | None = None, **environment: str) -> str:
    """The output of ``code`` in a process of its own, which ends well and quietly."""
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, words)]
    environment = {"PYTHONPATH": str(repository()), **os.environ, **environment}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def has_gpu() -> bool:
    """Whether the driver of an NVIDIA GPU answers."""
    return bool(nvidia_gpus())


def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent


@pytest.fixture
def no_right_to_write() -> Iterator[Path]:
    """A folder that this process may enter and no more, even if it runs as root."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)
            os.chmod(folder, 0o700)
