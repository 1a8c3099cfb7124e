"""Build profiles: TOML files that say what an engine is built for, in the words of the command line.

``engines/*.toml`` of the repository; a wheel has them as ``vidstyle/profiles/*.toml``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from vidstyle.errors import BadOption
from vidstyle.frame import Matrix
from vidstyle.options import BuildOptions, EngineLibrary, EnginePrecision, EngineTarget, Pixels

SUFFIX = ".toml"
MOST_BYTES = 1 << 20
SIZE_FIELDS = ("size", "smallest", "largest")
"""Fields of `BuildOptions` that are chosen together: a wish for a size replaces all that a profile says of sizes."""


class _Fault(ValueError):
    """What a key allows."""


def load_profile(name_or_path: str | Path) -> BuildOptions:
    """The options of a shipped profile or of a TOML file; `BadOption` names the key and what it allows."""
    return options_from(profile_fields(name_or_path))


def options_from(fields: Mapping[str, Any]) -> BuildOptions:
    """Options of some fields. A dynamic engine is tuned for the usual size if it takes it, else for its largest."""
    smallest, largest = fields.get("smallest"), fields.get("largest")
    if smallest is None or largest is None or "size" in fields:
        return BuildOptions(**fields)
    fits = all(a <= b <= c for a, b, c in zip(smallest, BuildOptions.size, largest, strict=True))
    return BuildOptions(**fields, size=BuildOptions.size if fits else largest)


def profile_fields(name_or_path: str | Path) -> dict[str, Any]:
    """Those fields of `BuildOptions` that a profile sets."""
    path = _found(str(name_or_path))
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadOption(f"profile {path} has {path.stat().st_size} bytes; a profile has a few hundred")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadOption(f"cannot read profile {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # wrong TOML, or not UTF-8
        raise BadOption(f"profile {path} is not TOML: {error}") from error
    fields: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            raise BadOption(f"profile {path}: there is no key {key!r}{hint} allowed are {', '.join(_KEYS)}")
        field, read = _KEYS[key]
        if field and field in fields:
            raise BadOption(f"profile {path}: size and opt are one; give one of them")
        try:
            known = read(value)
        except _Fault as fault:
            raise BadOption(f"profile {path}: {key} is {value!r}; it must be {fault}") from fault
        if field:
            fields[field] = known
    try:
        options_from(fields)
    except BadOption as error:
        raise BadOption(f"profile {path}: {error}") from error
    return fields


def profile_names() -> list[str]:
    """Names of the shipped profiles, sorted."""
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


def _size(value: object) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", value.strip()) if isinstance(value, str) else None
    if match is None:
        raise _Fault('a size such as "1280x720"')
    return int(match[2]), int(match[1])


def _choice(choices: tuple[str, ...]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices or not isinstance(value, str):
            raise _Fault(f"one of {', '.join(choices)}")
        return value

    return read


def _targets(value: object) -> tuple[str, ...]:
    choices = get_args(EngineTarget)
    if not isinstance(value, list) or any(target not in choices for target in value):
        raise _Fault(f"a list of {', '.join(choices)}")
    return tuple(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Fault("true or false")
    return value


def _integer(value: object) -> int:
    if type(value) is not int:  # True is an int too
        raise _Fault("a whole number")
    return value


def _words(value: object) -> str:
    if not isinstance(value, str):
        raise _Fault("text")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _Fault("the name of a file")
    return value


_KEYS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "description": ("", _words),
    "size": ("size", _size),
    "min": ("smallest", _size),
    "opt": ("size", _size),
    "max": ("largest", _size),
    "pixels": ("pixels", _choice(get_args(Pixels))),
    "matrix": ("matrix", _choice(get_args(Matrix))),
    "full-range": ("full_range", _flag),
    "precision": ("precision", _choice(get_args(EnginePrecision))),
    "targets": ("targets", _targets),
    "library": ("library", _choice(get_args(EngineLibrary))),
    "workspace": ("workspace_mib", _integer),
    "optimization-level": ("optimization_level", _integer),
    "timing-cache": ("timing_cache", _text),
}
"""Key: field of `BuildOptions` (none for what is said to people), and how its value is read."""
