"""The wheel holds the package, all of it, and nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import repository, run_python

from vidstyle.engine.build_profile import profile_names

COMPILER = next(
    (path for name in (os.environ.get("CXX", "c++"), "g++", "clang++") if (path := shutil.which(name))), None
)

# The majors of packages that `.ci/run` renders with, on one Python or another: pip gives each Python the newest it has.
RENDERED_WITH = {"av": (18, 19)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, so that it leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(repository() / name, folder)
    for name in ("vidstyle", "kernels", "engines"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "*.engine*")
        shutil.copytree(repository() / name, folder / name, ignore=ignored)
    return folder


def built(kind: str, checkout: Path, folder: Path, **environment: str) -> Path:
    """The file that the build backend makes, as pip would ask for it, without the network."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
    command, environment = [sys.executable, "-c", code], {**os.environ, **environment}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", checkout, tmp_path_factory.mktemp("wheel"))


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_installs_vidstyle_only(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vidstyle"}
    assert len(tops) == 2


def test_the_wheel_holds_every_file_of_the_package(wheel: Path, checkout: Path) -> None:
    files = {path.relative_to(checkout).as_posix() for path in (checkout / "vidstyle").rglob("*") if path.is_file()}
    missing = files - names_in(wheel)
    assert not missing
    assert {"vidstyle/py.typed", "vidstyle/_kernels.pyi", "vidstyle/gallery/fast/network.safetensors"} <= files
    assert "vidstyle/data/vgg16_features_fp16.safetensors" in files
    assert {f"vidstyle/profiles/{name}.toml" for name in profile_names()} <= names_in(wheel)


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_the_wheel_holds_the_compiled_kernels_without_their_sources(wheel: Path) -> None:
    names = names_in(wheel)
    assert [name for name in names if name.startswith("vidstyle/_kernels.") and name.endswith((".so", ".pyd"))]
    assert "-cp311-abi3-" in wheel.name, "one wheel is for Python 3.11 and all later ones"
    assert not [name for name in names if name.endswith((".cpp", ".h", ".inl"))]


def test_the_wheel_works_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    # Beside it lies an `engines` of somebody else, as on PyPI.
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "theirs.toml").touch()
    code = (
        "import vidstyle; from vidstyle.imaging import resample; from vidstyle.gallery import load_style, style_names;"
        "from vidstyle.engine.build_profile import profile_fields, profile_names;"
        "print(vidstyle.__file__, resample.kernels_in_use(), [load_style(name).kind for name in style_names()]);"
        "print(profile_names(), profile_fields('1080p')['size'])"
    )
    first, second = run_python(code, cwd=tmp_path, PYTHONPATH=str(tmp_path)).splitlines()
    assert first.startswith(str(tmp_path))
    assert COMPILER is None or " None " not in first
    assert second == f"{profile_names()} (1080, 1920)"


def test_without_a_compiler_it_installs_all_the_same(checkout: Path, tmp_path: Path) -> None:
    nothing = str(tmp_path / "no-compiler")
    for leftover in ("build", "vidstyle.egg-info"):
        shutil.rmtree(checkout / leftover, ignore_errors=True)
    names = names_in(built("wheel", checkout, tmp_path, CC=nothing, CXX=nothing))
    assert "vidstyle/imaging/resample.py" in names
    assert not [name for name in names if name.startswith("vidstyle/_kernels.") and not name.endswith(".pyi")]


def test_the_source_archive_can_be_compiled(checkout: Path, tmp_path: Path) -> None:
    with tarfile.open(built("sdist", checkout, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {path.relative_to(checkout).as_posix() for path in (checkout / "kernels").iterdir()}
    sources |= {f"engines/{name}.toml" for name in profile_names()}
    sources |= {"vidstyle/imaging/resample.py", "vidstyle/gallery/fast/network.safetensors"}
    assert {"setup.py", "pyproject.toml", *sources} <= names


def test_upper_bounds_let_in_only_releases_that_render() -> None:
    dependencies = tomllib.loads((repository() / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = {}
    for dependency in dependencies:
        match = re.fullmatch(r"([\w-]+)>=(\d+)[\d.]*,<(\d+)", dependency)
        if match:
            bounds[match[1]] = tuple(range(int(match[2]), int(match[3])))
        else:
            assert "<" not in dependency, f"{dependency}: write NAME>=MAJOR,<MAJOR, and render with each"
    assert bounds == RENDERED_WITH
    for name, majors in RENDERED_WITH.items():
        assert int(importlib.metadata.version(name).split(".")[0]) in majors
