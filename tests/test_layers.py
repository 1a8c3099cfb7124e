"""Imports point downwards only, and the heavy packages stay where they belong."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import vidstyle

PACKAGE = Path(__file__).parent.parent / "vidstyle"

# The longest matching prefix decides. Modules inside one line of the table may import each other.
LEVELS = {
    "vidstyle._renamed": 0,
    "vidstyle.data": 0,
    "vidstyle.errors": 0,
    "vidstyle.options": 0,
    "vidstyle.files": 0,
    "vidstyle.system": 0,
    "vidstyle.pipeline": 0,
    "vidstyle._kernels": 1,
    "vidstyle.frame": 1,
    "vidstyle.models": 1,
    "vidstyle.models.torch_net": 1,
    "vidstyle.gallery": 1,
    "vidstyle.imaging": 1,
    "vidstyle.video": 2,
    "vidstyle.graph": 2,
    "vidstyle.training": 2,
    "vidstyle.backends": 2,
    "vidstyle.stage": 2,
    "vidstyle.engine": 3,
    "vidstyle.masks": 3,
    "vidstyle.stylizer": 3,
    "vidstyle.realtime": 3,
    "vidstyle.rendering": 3,
    "vidstyle.films": 3,
    "vidstyle.metrics": 0,
    "vidstyle.scheduler": 3,
    "vidstyle.live": 3,
    "vidstyle.serve": 3,
    "vidstyle.tools": 3,
    "vidstyle.web": 2,
    "vidstyle.cli": 4,
    "vidstyle.__main__": 5,
}
ORDERED = (0, 1, 3)  # on these levels a module may import its siblings, as long as there is no cycle
ALLOWED_IN = {
    "torch": (
        "vidstyle.models.torch_net",
        "vidstyle.models.winograd",
        "vidstyle.training",
        "vidstyle.backends.torch",
    ),
    "click": ("vidstyle.cli",),
    "rich": ("vidstyle.cli",),
    "av": (
        "vidstyle.video",
        "vidstyle.imaging.image_io",
        "vidstyle.tools.doctor",
        "vidstyle.tools.bench",
        "vidstyle.serve",
    ),
    "openvino": ("vidstyle.backends.openvino",),
    "onnxruntime": ("vidstyle.backends.onnxruntime",),
    "onnx": ("vidstyle.graph", "vidstyle.engine.fp16_check"),
    "tensorrt": ("vidstyle.backends.tensorrt",),
    "tensorrt_rtx": ("vidstyle.backends.tensorrt",),
    "aiohttp": ("vidstyle.serve", "vidstyle.video.output.whip_child", "vidstyle.video.capture.whip"),
    "aiortc": ("vidstyle.serve", "vidstyle.video.output.whip_child", "vidstyle.video.capture.whip"),
    "filelock": ("vidstyle.films", "vidstyle.serve", "vidstyle.backends.tensorrt.engine_cache"),
    "msgspec": ("vidstyle.films", "vidstyle.serve", "vidstyle.models.engine_file"),
    "ray": ("vidstyle.films.cluster",),
    "cuda": ("vidstyle.backends.tensorrt",),
    "pythonosc": ("vidstyle.stage.osc",),
    "mido": ("vidstyle.stage.midi",),
    "pyvirtualcam": ("vidstyle.video.output.virtual_camera",),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def matches(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def unit(module: str) -> str | None:
    """The line of LEVELS that holds ``module``."""
    found = [prefix for prefix in LEVELS if matches(module, prefix)]
    return max(found, key=len, default=None)


@functools.cache
def imports(path: Path) -> set[str]:
    """Everything that a file imports, inside functions too, but not for type checkers alone."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            base = node.module or ""
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return found


@pytest.mark.parametrize("module", [m for m in MODULES if m != "vidstyle"])
def test_every_module_has_a_level(module: str) -> None:
    assert unit(module), f"{module} is in no level; add it to LEVELS"


@pytest.mark.parametrize("module", [m for m in MODULES if m != "vidstyle"])
def test_imports_point_downwards(module: str) -> None:
    own = unit(module)
    assert own
    for imported in imports(MODULES[module]):
        other = unit(imported)
        if other is None or other == own:
            continue
        allowed = LEVELS[other] < LEVELS[own] or (LEVELS[other] == LEVELS[own] and LEVELS[own] in ORDERED)
        assert allowed, f"{module} (level {LEVELS[own]}) imports {imported} (level {LEVELS[other]})"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and f"vidstyle.{name}" not in LEVELS


@pytest.mark.parametrize("module", MODULES)
def test_no_module_reaches_into_a_private_name_of_another(module: str) -> None:
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text())))
    found = [
        (f"{node.module}.{alias.name}", alias.name, alias.asname or alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vidstyle")
        for alias in node.names
    ]
    modules = {name for path, _, name in found if path in MODULES}
    taken = {path for path, name, _ in found if is_private(name)}
    taken |= {
        f"{node.value.id}.{node.attr}"
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
        if is_private(node.attr)
    }
    assert not taken, f"{module} uses {sorted(taken)}"


SCRIPTS = [path for folder in ("benchmarks", "examples", "scripts") for path in (PACKAGE.parent / folder).glob("*.py")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_what_there_is(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vidstyle":
            assert node.module in MODULES
            if node.module == "vidstyle":
                known = {*vidstyle.__all__, "__version__", *(name.removeprefix("vidstyle.") for name in MODULES)}
                assert {alias.name for alias in node.names} <= known


def test_no_import_cycle() -> None:
    edges = {m: {i for i in imports(p) if i in MODULES and i != m} for m, p in MODULES.items() if m != "vidstyle"}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join((*path, module))}"
        if module in done:
            return
        for other in edges.get(module, ()):
            visit(other, (*path, module))
        done.add(module)

    for module in edges:
        visit(module, ())


@pytest.mark.parametrize("package", ALLOWED_IN)
def test_package_is_imported_only_where_it_belongs(package: str) -> None:
    users = {m for m, path in MODULES.items() if any(matches(i, package) for i in imports(path))}
    strays = {m for m in users if not any(matches(m, prefix) for prefix in ALLOWED_IN[package])}
    assert not strays, f"{package} is imported by {sorted(strays)}"


def test_only_the_command_line_prints() -> None:
    for module, path in MODULES.items():
        if matches(module, "vidstyle.cli"):
            continue
        statements = [one for one in ast.parse(path.read_text()).body if not is_program(one)]
        calls = [n for one in statements for n in ast.walk(one) if isinstance(n, ast.Call)]
        names = {ast.unparse(call.func) for call in calls}
        assert not names & {"print", "sys.exit", "exit", "quit"}, module


def is_program(statement: ast.stmt) -> bool:
    """Whether it runs only where the module is a process of its own."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"
