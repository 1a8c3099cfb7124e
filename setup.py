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

    def copy_extensions_to_source(self) -> None:
        for old in glob("vidstyle/_kernels.cp*"):  # what was built for one Python alone would be imported first
            os.remove(old)
        super().copy_extensions_to_source()


class BuildPackage(build_py):
    """Copies the profiles of engines/ to vidstyle/profiles, so that a wheel holds them."""

    def run(self) -> None:
        super().run()
        for source, copy in self._profiles().items():
            self.mkpath(os.path.dirname(copy))
            self.copy_file(source, copy)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self._profiles().values()]

    def _profiles(self) -> dict[str, str]:
        if self.editable_mode:
            return {}  # engines/ itself is read then
        folder = os.path.join(self.build_lib, "vidstyle", "profiles")
        return {source: os.path.join(folder, os.path.basename(source)) for source in sorted(glob("engines/*.toml"))}


setup(
    packages=find_packages(include=["vidstyle", "vidstyle.*"]),
    ext_modules=[
        Extension(
            "vidstyle._kernels",
            sources=["kernels/module.cpp"],
            depends=sorted(glob("kernels/*.h") + glob("kernels/*.inl")),
            optional=True,  # without a compiler NumPy and OpenCV do the work
            py_limited_api=True,
            define_macros=[("Py_LIMITED_API", "0x030B0000")],  # Python 3.11 and all that come after it
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage},
)
