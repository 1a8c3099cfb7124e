"""Package list and the compiled extension; the metadata is in pyproject.toml."""

import os
from glob import glob

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py


class BuildKernels(build_ext):
    """Tells the compiler what the kernels need, in its own words."""

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            flags = ["/std:c++17", "/O2"]
        else:
            # The last three let loops become vector instructions: Python's own flags hold -fwrapv, under
            # which an index may wrap around, and nothing here reads errno or traps.
            flags = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden"]
            flags += ["-fno-wrapv", "-fno-math-errno", "-fno-trapping-math", "-pthread"]
        for extension in self.extensions:
            extension.extra_compile_args = flags
            if "-pthread" in flags:
                extension.extra_link_args = ["-pthread"]
        super().build_extensions()


class BuildPackage(build_py):
    """Takes files from outside of the package along: a wheel installs vidstyle and nothing else.

    The profiles of engines/ go to vidstyle/profiles, and what NVRTC compiles at run time to vidstyle/kernels.
    """

    def run(self) -> None:
        super().run()
        for source, copy in self._taken_along().items():
            self.mkpath(os.path.dirname(copy))
            self.copy_file(source, copy)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self._taken_along().values()]

    def _taken_along(self) -> dict[str, str]:
        if self.editable_mode:
            return {}  # the folders themselves are read then
        package = os.path.join(self.build_lib, "vidstyle")
        folders = {"profiles": sorted(glob("engines/*.toml")), "kernels": ["kernels/warp.cu", "kernels/warp.h"]}
        return {
            source: os.path.join(package, folder, os.path.basename(source))
            for folder, sources in folders.items()
            for source in sources
        }


setup(
    packages=find_packages(include=["vidstyle", "vidstyle.*"]),
    ext_modules=[
        Extension(
            "vidstyle._kernels",
            sources=["kernels/module.cpp"],
            depends=sorted(glob("kernels/*.h") + glob("kernels/*.inl")),
            optional=True,  # without a compiler vidstyle.ops and vidstyle.warp fall back to NumPy and OpenCV
        )
    ],
    cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage},
)
