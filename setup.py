"""Package list and extension; the metadata is in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=find_packages(include=["vidstyle", "vidstyle.*"]))
