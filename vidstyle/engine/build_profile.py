"""Build profiles: TOML files that say what an engine is built for, in the words of the command line.

``engines/*.toml`` of the repository; a wheel has them as ``vidstyle/profiles/*.toml``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidstyle.errors import BadOption, reason
from vidstyle.options import BuildOptions

SUFFIX = ".toml"
MAX_BYTES = 1 << 20
SIZE_FIELDS = ("size", "smallest", "largest")
"""Fields of `BuildOptions` that are chosen together: a wish for a size replaces all that a profile says of sizes."""

_SIZE = re.compile(r"\s*(\d{1,5})[xX×](\d{1,5})\s*")
_KINDS: dict[type, str] = {str: "text", bool: "true or false", int: "a whole number", list: "a list"}
_KEYS: dict[str, tuple[str, type]] = {
    "description": ("", str),
    "size": ("size", str),
    "min": ("smallest", str),
    "opt": ("size", str),
    "max": ("largest", str),
    "pixels": ("pixels", str),
    "matrix": ("matrix", str),
    "full-range": ("full_range", bool),
    "precision": ("precision", str),
    "targets": ("targets", list),
    "library": ("library", str),
    "workspace": ("workspace_mib", int),
    "optimization-level": ("optimization_level", int),
    "timing-cache": ("timing_cache", str),
}
"""Key: field of `BuildOptions` (none for what is said to people) and the type of its value in TOML."""


def options_from(fields: Mapping[str, Any]) -> BuildOptions:
    """Options of some fields. A dynamic engine is tuned for the usual size if it takes it, else for its largest."""
    smallest, largest = fields.get("smallest"), fields.get("largest")
    if smallest is None or largest is None or "size" in fields:
        return BuildOptions(**fields)
    fits = all(a <= b <= c for a, b, c in zip(smallest, BuildOptions.size, largest, strict=True))
    return BuildOptions(**fields, size=BuildOptions.size if fits else largest)


def profile_fields(name_or_path: str | Path) -> dict[str, Any]:
    """The fields of `BuildOptions` that a shipped profile or a TOML file sets; `BadOption` names a wrong key."""
    path = _found(str(name_or_path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadOption(f"profile {path} has {path.stat().st_size} bytes; a profile has a few hundred")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadOption(f"cannot read profile {path}: {reason(error)}") from error
    except BadOption:
        raise
    except (ValueError, RecursionError) as error:  # wrong TOML, or not UTF-8
        raise BadOption(f"profile {path} is not TOML: {error}") from error
    fields: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            raise BadOption(f"profile {path}: there is no key {key!r}{hint} allowed are {', '.join(_KEYS)}")
        field, kind = _KEYS[key]
        size = _SIZE.fullmatch(str(value)) if field in SIZE_FIELDS else None
        if type(value) is not kind or (field in SIZE_FIELDS and size is None):  # True is an int too
            allowed = 'a size such as "1280x720"' if field in SIZE_FIELDS else _KINDS[kind]
            raise BadOption(f"profile {path}: {key} is {value!r}; it must be {allowed}")
        if field in fields:
            raise BadOption(f"profile {path}: size and opt are one; give one of them")
        if size is not None:
            value = int(size[2]), int(size[1])
        if field:
            fields[field] = tuple(value) if isinstance(value, list) else value
    try:
        options_from(fields)
    except BadOption as error:
        raise BadOption(f"profile {path}: {error}") from error
    return fields


def profile_names() -> list[str]:
    return sorted(path.stem for path in _folder().glob(f"*{SUFFIX}"))


def _found(text: str) -> Path:
    if text in profile_names():
        return _folder() / f"{text}{SUFFIX}"
    path = Path(text)
    if path.suffix == SUFFIX or path.exists():
        return path
    near = difflib.get_close_matches(text, profile_names(), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise BadOption(
        f"there is no profile {text!r}; {hint}there are {', '.join(profile_names())}, "
        f"or give the path of a {SUFFIX} file"
    )


def _folder() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "profiles"
    # Beside an installed package there may be an `engines` of somebody else.
    in_checkout = (package.parent / "pyproject.toml").exists() and not installed.is_dir()
    return package.parent / "engines" if in_checkout else installed
