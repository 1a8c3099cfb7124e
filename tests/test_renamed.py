"""Old names work, and warn."""

from __future__ import annotations

import importlib
import sys

import pytest

import vidstyle
from vidstyle import _renamed, frame
from vidstyle.rendering import render
from vidstyle.stylizer import Stylizer

TORCH = ("vidstyle.model", "vidstyle.training")


@pytest.mark.parametrize("old", _renamed.MODULES)
def test_an_old_module_path_is_the_new_module(old: str) -> None:
    if old.startswith(TORCH):
        pytest.importorskip("torch")
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now") as caught:
        module = importlib.import_module(old)
    assert module is sys.modules[_renamed.MODULES[old]]
    assert len(caught) == 1


def test_the_warning_names_the_line_that_imports() -> None:
    sys.modules.pop("vidstyle.stylize", None)
    with pytest.warns(DeprecationWarning) as caught:
        from vidstyle.stylize import Stylizer as OldStylizer  # type: ignore[import-not-found]
        from vidstyle.stylize import render as old_render
    assert (OldStylizer, old_render) == (Stylizer, render)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [(module, old, new) for module, names in _renamed.ATTRIBUTES.items() for old, new in names.items()],
)
def test_an_old_attribute_is_the_new_one(module: str, old: str, new: str) -> None:
    if module.startswith(TORCH):
        pytest.importorskip("torch")
    owner = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=new) as caught:
        assert getattr(owner, old) is getattr(owner, new)
    assert caught[0].filename == __file__


def test_an_old_method_calls_the_new_one() -> None:
    class Renamed:
        old = _renamed.renamed_method("old", "new")

        def new(self, value: int) -> int:
            return value + 1

    with pytest.warns(DeprecationWarning, match=r"Renamed\.old is now Renamed\.new") as caught:
        assert Renamed().old(1) == 2
    assert caught[0].filename == __file__


@pytest.mark.parametrize("module", [vidstyle, frame])
def test_a_name_that_never_was_is_an_attribute_error(module: object) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(module, "no_such_name")  # noqa: B009
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vidstyle.no_such_module")
