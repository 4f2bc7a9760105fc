"""Reads a project's imports without running it, and finds those that break its rules.

Imports inside functions and under `TYPE_CHECKING` count, and so do the names that are given to `import_module`.
"""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """An import of a module.

    Attributes:
        module: The module that imports.
        line: Its line.
        target: What is imported: a module of the project, or any other name.
        is_deferred: Whether the import is for types only, or by name.
    """

    module: str
    line: int
    target: str
    is_deferred: bool

    def breaks(self, rule: str) -> str:
        """Return the sentence that says which rule the import breaks."""
        return f"{self.module}, line {self.line}, imports {self.target}: {rule}"


class Project(NamedTuple):
    """The modules of a project, and all their imports."""

    modules: frozenset[str]
    imports: tuple[Import, ...]

    def inner(self) -> Iterator[Import]:
        """Yield the imports of the project's own modules."""
        return (found for found in self.imports if found.target in self.modules)

    def outer(self) -> Iterator[Import]:
        """Yield the imports of others' modules, without those of the standard library."""
        known = {*sys.stdlib_module_names, *self.modules}
        return (found for found in self.imports if found.target.partition(".")[0] not in known)

    def needed_by(self, module: str) -> set[str]:
        """Return the modules that a module imports, directly or through one another, and all their packages."""
        below: dict[str, set[str]] = {name: {name.rpartition(".")[0]} & self.modules for name in self.modules}
        for found in self.inner():
            below[found.module].add(found.target)
        return _reachable(module, below)


def read_project(root: Path, packages: Collection[str]) -> Project:
    """Return the modules and the imports of packages that lie in a folder."""
    paths = {_name(path, root): path for package in packages for path in sorted((root / package).rglob("*.py"))}
    modules = frozenset(paths)
    return Project(modules, tuple(found for module in paths for found in _read(module, paths[module], modules)))


class Rooms(NamedTuple):
    """The table of rooms.

    Attributes:
        below: Each room, a module or a package, and the rooms that it may import; what those may import it may too.
        halls: Packages that hold rooms, and of which only the `__init__` is a room itself.
    """

    below: Mapping[str, Collection[str]]
    halls: Collection[str] = ()

    def room(self, module: str) -> str:
        """Return the room that a module is in; empty if it is in none."""
        room = _closest(module, self.below)
        return "" if room in self.halls and room != module else room

    def reachable(self, room: str) -> set[str]:
        """Return the rooms that a room may import."""
        return _reachable(room, self.below)


def forbidden_ways(project: Project, rooms: Rooms) -> list[str]:
    """Return the imports of rooms that the importing room may not import, and the modules that are in no room."""
    homeless = [module for module in sorted(project.modules) if not rooms.room(module)]
    sentences = [f"{module} is in no room: add it to the table of rooms." for module in homeless]
    for found in project.inner():
        room, target = rooms.room(found.module), rooms.room(found.target)
        if room and target and target not in {room, *rooms.reachable(room)}:
            below = rooms.below[room]
            rule = f"{', '.join(below)}, and what these may" if below else "no other room"
            sentences.append(found.breaks(f"{room} may import {rule}."))
    return sentences


def foreign_imports(project: Project, rooms: Rooms, allowed: Mapping[str, Collection[str]]) -> list[str]:
    """Return the imports of other packages than those which the mapping allows; rooms that it lacks may import all."""
    sentences = []
    for found in project.outer():
        packages = allowed.get(rooms.room(found.module))
        if packages is not None and found.target.partition(".")[0] not in packages:
            only = " and ".join(("the standard library", *packages))
            sentences.append(found.breaks(f"{rooms.room(found.module)} may import only {only} from elsewhere."))
    return sentences


def opened_rooms(project: Project, doors: Collection[str]) -> list[str]:
    """Return the imports by which doors open a room before it is asked for: those that are not deferred."""
    return [
        found.breaks("a door imports rooms by name, or for types only.")
        for found in project.inner()
        if found.module in doors and found.target not in doors and not found.is_deferred
    ]


def circles(project: Project) -> set[frozenset[str]]:
    """Return the sets of modules that import each other, directly or through one another."""
    below: dict[str, set[str]] = {}
    for found in project.inner():
        below.setdefault(found.module, set()).add(found.target)
    reached = {module: _reachable(module, below) for module in project.modules}
    return {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in project.modules
        if module in reached[module]
    }


def imports_within(project: Project, circle: Collection[str]) -> list[str]:
    """Return the imports that make a circle."""
    return [
        found.breaks("modules must not import each other; what they share belongs below them.")
        for found in project.inner()
        if {found.module, found.target} <= {*circle}
    ]


def _name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _read(module: str, path: Path, modules: Collection[str]) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            names = _imported_by_name(node, package)
        else:
            continue
        for name in names:
            is_deferred = isinstance(node, ast.Call) or id(node) in for_types
            yield Import(module, node.lineno, _closest(name, modules) or name, is_deferred)


def _imported_by_name(call: ast.Call, package: str) -> list[str]:
    function = ast.unparse(call.func).rpartition(".")[2]
    if function not in ("import_module", "__import__") or not call.args or not isinstance(call.args[0], ast.Constant):
        return []
    return [resolve_name(call.args[0].value, package)]


def _closest(name: str, names: Collection[str]) -> str:
    """Return the name, or its closest package, that is among the names; empty if none is."""
    while name and name not in names:
        name = name.rpartition(".")[0]
    return name


def _reachable(start: str, below: Mapping[str, Collection[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [*below.get(start, ())]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += below.get(name, ())
    return found
