"""Who imports whom (ARCHITECTURE.md, "The house"), and what a light start may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fastdock

PACKAGE = Path(__file__).parents[2] / "pyruntime" / "fastdock"

# room: what it may import of fastdock beside itself.  A name stands for itself and all below it.
OBJECTS = {
    "engine",
    "base_process",
    "process",
    "image",
    "options",
    "aio",
    "containers",
    "volumes",
}  # what people hold
FACE = {"", "_errors", "_process_errors", "_light", "rootless", *OBJECTS}
RULES = {
    "cli": FACE,
    "api": FACE,
    "web": FACE,
    "pytest_plugin": FACE,
    # References, platforms and the callback's values are vocabulary: they know no server and import nothing heavy.
    "store": {"_errors", "_light", "_core", "registry.reference", "registry.platform", "registry.progress"},
    "registry": {"_errors", "_light", "_core", "store"},
    "rootless": {"_errors", "_core", "store.paths", "engine"},
    "network": {"_errors", "_light", "_core", "store.paths", "store.locks"},
    "_light": set(),
    "_errors": {"_process_errors"},
    "_process_errors": {"_errors"},
    "sizes": {"_errors", "_light"},
    "mount_options": {"_errors", "_light", "sizes"},
    "options": {"_errors", "_light", "sizes", "mount_options", "network_options"},
    "network_options": {"_errors"},
    "planning": {"_errors", "_light", "_core", "options", "planned_mounts", "store.paths", "network_options"},
    "planned_mounts": {"_errors", "_core", "options", "mount_options", "store.paths"},
}
PROGRAMS = {"__main__", "_start"}  # they start the command line
FACES = {"cli", "api", "web", "pytest_plugin"}
# (importer, imported): why it is right all the same.
EXCEPTIONS = {
    ("cli.info", "_core"): "it reports what the core finds on this machine",
    ("cli.bench", "bench"): "the measurements are a program of their own, not a part of the engine",
    ("cli.logs", "_streams"): "splits a log into lines, which is output",
}


class Import(NamedTuple):
    importer: str  # "cli.run"; the package itself is ""
    imported: str
    line: int
    at_import: bool  # not inside a function


def module_name(path: Path) -> str:
    return (
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")
    )


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports_of(path: Path) -> Iterator[Import]:
    """The package's own modules that this one imports; not those that only type checkers see."""
    importer = module_name(path)

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        if is_type_checking(node):
            return
        if isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").split(".")[0] == "fastdock"
        ):
            base = absolute(path, node.module or "", node.level)
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                yield Import(importer, inner if exists(inner) else base, node.lineno, at_import)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "fastdock":
                    yield Import(
                        importer, alias.name.removeprefix("fastdock").strip("."), node.lineno, at_import
                    )
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_import and not inside)

    yield from visit(ast.parse(path.read_text()), True)


def absolute(path: Path, module: str, level: int) -> str:
    """What ``from ..x import`` in this file means, below fastdock."""
    if level == 0:
        return module.removeprefix("fastdock").removeprefix(".")
    package = path.relative_to(PACKAGE).parts[: -level or None]
    return ".".join((*package, *filter(None, module.split("."))))


def exists(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split("."))
    return any(
        file.exists() for file in (path.with_suffix(".py"), path.with_suffix(".pyi"), path / "__init__.py")
    )


def all_imports() -> list[Import]:
    return [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]


def below(module: str, room: str) -> bool:
    return module == room or (room != "" and module.startswith(room + "."))


def room_of(module: str) -> str | None:
    return next((room for room in RULES if below(module, room)), None)


def allowed(found: Import, room: str) -> bool:
    reason = next(
        (why for (a, b), why in EXCEPTIONS.items() if found.importer == a and below(found.imported, b)), None
    )
    return bool(reason) or any(below(found.imported, name) for name in {room, *RULES[room]})


def test_each_room_knows_only_what_it_may() -> None:
    broken = []
    for found in all_imports():
        room = room_of(found.importer)
        if room and not allowed(found, room):
            broken.append(f"{found.importer}:{found.line} imports fastdock.{found.imported}")
    assert broken == []


def test_nothing_imports_a_face() -> None:
    broken = [
        f"{found.importer}:{found.line} imports fastdock.{found.imported}"
        for found in all_imports()
        if any(below(found.imported, face) for face in FACES)
        and room_of(found.importer) not in FACES
        and found.importer not in PROGRAMS
    ]
    assert broken == []


def test_no_exception_is_left_over() -> None:
    found = all_imports()
    for importer, imported in EXCEPTIONS:
        assert any(i.importer == importer and below(i.imported, imported) for i in found), (
            importer,
            imported,
        )


def test_no_cycle_at_import_time() -> None:
    """Modules that import each other as they load work by luck of the order."""
    graph: dict[str, set[str]] = {}
    for found in all_imports():
        if found.at_import and found.imported != found.importer:
            graph.setdefault(found.importer, set()).add(found.imported)
    done: set[str] = set()

    def follow(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for imported in sorted(graph.get(module, ())):
                follow(imported, (*way, module))
            done.add(module)

    for module in sorted(graph):
        follow(module, ())


def loaded_by(program: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after ``program`` and had not before."""
    place = str(Path(fastdock.__file__).parents[1])
    site_packages = [path for path in sys.path if path.endswith("site-packages")]
    script = (
        f"import sys; sys.path[:0] = {[place, *site_packages]!r}; before = set(sys.modules)\n{program}\n"
        "print(*(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-S", "-I", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_import_fastdock_loads_nothing_but_itself() -> None:
    """15 ms more than Python itself is all that it may cost."""
    beside_typing = loaded_by("import fastdock") - loaded_by("import typing, __future__")
    assert beside_typing == {"fastdock"}


def outsiders(modules: set[str]) -> set[str]:
    """Packages that are neither the standard library nor fastdock."""
    return {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"fastdock"}


# What costs most to load: 240, 50, 50, 40, 25 and 8 ms.
HEAVY = {"aiohttp", "http.client", "rich", "asyncio", "ssl", "subprocess"}


def test_help_loads_nothing() -> None:
    program = "from fastdock.cli import main\ntry:\n main(['--help'])\nexcept SystemExit:\n pass"
    loaded = loaded_by(program)
    assert outsiders(loaded) == set()
    assert {name for name in loaded if name.startswith("fastdock")} == {
        "fastdock",
        "fastdock.cli",
        "fastdock.cli.usage",
    }
    assert not loaded & HEAVY


@pytest.mark.parametrize("command", ["run", "images", "import", "rmi", "info", "version", "pull"])
def test_a_command_s_help_loads_little(command: str) -> None:
    program = (
        f"from fastdock.cli import main\ntry:\n main(['{command}', '--help'])\nexcept SystemExit:\n pass"
    )
    loaded = loaded_by(program)
    assert outsiders(loaded) == {"click"}
    assert not loaded & HEAVY


def test_running_a_container_loads_no_network_and_no_terminal_art() -> None:
    loaded = loaded_by(
        "import fastdock.engine, fastdock.process, fastdock.builtin_images, fastdock.communication"
    )
    assert outsiders(loaded) == set()
    assert not loaded & HEAVY


def test_a_run_without_a_bridge_loads_only_what_it_needs() -> None:
    """What each takes of the 60 ms that a whole ``fastdock run`` has: 5, 3, 3, 4, 2, 3, 1 and 2."""
    loaded = loaded_by(
        "import fastdock.cli.run, fastdock.cli.direct, fastdock.engine, fastdock.cli.foreground, fastdock.unbridged,"
        "fastdock.builtin_images, fastdock.store, fastdock.containers.names"
    )
    assert outsiders(loaded) == set()
    slow = {"re", "enum", "json", "threading", "typing", "ipaddress", "contextlib", "datetime"}
    assert not loaded & (HEAVY | slow)


def test_a_network_loads_little() -> None:
    """It is the default of ``fastdock run``, which has 60 ms in all."""
    loaded = loaded_by("import fastdock.engine, fastdock.builtin_images, fastdock.store, fastdock.endpoint")
    assert outsiders(loaded) == set()
    slow = {"typing", "dataclasses", "inspect", "socket", "pathlib", "secrets", "random"}
    slow |= {"re", "enum", "json", "threading", "ipaddress", "datetime"}
    assert not loaded & (HEAVY | slow)


@pytest.mark.parametrize(
    "modules",
    [
        "fastdock.cli.listing, fastdock.engine, fastdock.containers.manager",
        "fastdock.cli.execution, fastdock.engine, fastdock.containers.manager, fastdock.containers.execution, "
        "fastdock.containers.container, fastdock.containers.creation, fastdock.cli.foreground, fastdock.cli.attachment",
    ],
    ids=["ps", "exec"],
)
def test_what_plain_commands_load(modules: str) -> None:
    loaded = loaded_by(f"import {modules}")
    assert outsiders(loaded) == set()
    slow = {"typing", "dataclasses", "inspect", "socket", "pathlib", "secrets", "random"}
    assert not loaded & (HEAVY | slow)


def test_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    names = {node.name for node in stub.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert {"LaunchPlan", "Container", "Session"} <= names
