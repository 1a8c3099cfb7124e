"""Parts on a Ray cluster: a real one on this machine, whose workers are killed and do not share the disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from media import Audio, make_video

from vidstyle import render_parts
from vidstyle.gallery import style_names

ray = pytest.importorskip("ray", reason="Ray is not installed (vidstyle[cluster])")
FIRST = style_names()[0]
NO_START = 75
PATIENT = {"RAY_agent_register_timeout_ms": "120000", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
pytestmark = pytest.mark.alone  # Ray gives itself half a minute to start

# Starts a cluster of its own with 4 workers, as a machine with 4 cores would, and renders.
HERE = """
import sys, ray
from vidstyle.cli import main
try:
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
except Exception as error:
    ray.shutdown()
    sys.exit(75 if "timed out during startup" in str(error) else 1)
main()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("film") / "in.mp4", frames=150, audio=[Audio()], options={"g": "10"})


@pytest.fixture(scope="module")
def expected(source: Path) -> bytes:
    render_parts(source, source.with_name("one.mp4"), FIRST, part_seconds=1)
    return source.with_name("one.mp4").read_bytes()


def words(source: Path, output: Path, workers: str) -> list[str]:
    return ["render", "-s", FIRST, str(source), str(output), "--part-seconds", "1", "--workers", workers, "--json"]


def painters_of(pid: int) -> list[int]:
    """The processes below ``pid`` that are painting a part."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError, IndexError):
            if b"ray::_paint" in (entry / "cmdline").read_bytes() and os.getsid(int(entry.name)) == os.getsid(pid):
                found.append(int(entry.name))
    return found


def test_a_cluster_whose_workers_are_killed_makes_what_one_process_makes(
    tmp_path: Path, source: Path, expected: bytes
) -> None:
    output = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [sys.executable, "-c", HERE, *words(source, output, "ray")],
        stdout=subprocess.PIPE,
        env={**os.environ, **PATIENT},
        start_new_session=True,
    )
    killed: list[int] = []

    def kill() -> None:
        while process.poll() is None and len(killed) < 3:
            for painter in painters_of(process.pid)[:1]:
                with contextlib.suppress(OSError):
                    os.kill(painter, signal.SIGKILL)
                    killed.append(painter)
            time.sleep(0.3)

    killer = threading.Thread(target=kill)
    killer.start()
    said = process.communicate()[0]
    killer.join()
    end(process)
    if process.returncode == NO_START:
        pytest.skip("Ray cannot start on this machine in half a minute: it is too busy")
    assert process.returncode == 0
    text = said.decode()  # Ray, which the test began itself, says something before
    assert json.JSONDecoder().raw_decode(text, text.index("{\n"))[0]["frames"] == 150
    assert killed
    assert output.read_bytes() == expected


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that has a session of its own, and all that is left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def far_cluster(tmp_path: Path, source: Path) -> Iterator[str]:
    """The address of a cluster on whose disk the film is not."""
    port = 20000 + os.getpid() % 9000  # beyond those of its workers
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # the names of its sockets have a limit
    program = Path(sys.executable).with_name("ray")
    start = (
        f"mount -t tmpfs none {source.parent} && exec {program} start --head --block --port={port + 9000} --num-cpus=2 "
        f"--ray-client-server-port={port} --include-dashboard=false --temp-dir={folder}"
    )
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here, so no cluster without the film on its disk")
    environment = {**os.environ, **PATIENT, "VIDSTYLE_HOME": str(tmp_path / "home"), "RAY_DISABLE_IMPORT_WARNING": "1"}
    environment["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # what Ray's server forks for a client dies of it now and then
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", start], stdout=log, stderr=log, env=environment, start_new_session=True
    )
    try:
        while b"runtime started" not in (tmp_path / "log").read_bytes():
            if process.poll() is not None and b"timed out" in (tmp_path / "log").read_bytes():
                pytest.skip("Ray cannot start on this machine in half a minute: it is too busy")
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield f"ray://127.0.0.1:{port}"
    finally:
        end(process)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_far_cluster_gets_the_film_and_gives_back_the_parts(
    tmp_path: Path, source: Path, expected: bytes, far_cluster: str
) -> None:
    output = tmp_path / "out.mp4"
    done = subprocess.run(
        [sys.executable, "-m", "vidstyle", *words(source, output, far_cluster)],
        capture_output=True,
        text=True,
        env={**os.environ, **PATIENT},
    )
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == expected
    (copy,) = (tmp_path / "home" / "films").glob("*/in.mp4")
    assert copy.read_bytes() == source.read_bytes()


def test_a_cluster_that_is_not_there_is_told_in_a_sentence(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.mp4"
    done = subprocess.run(
        [sys.executable, "-m", "vidstyle", *words(source, output, "ray://127.0.0.1:9")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 1 and "no Ray cluster answers at ray://127.0.0.1:9" in errors[0]
    assert "Traceback" not in done.stderr
