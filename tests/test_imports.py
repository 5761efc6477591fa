"""The rules of who may import whom, held over every file by reading it, and torch's by running."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ROOMS = ("errors", "units", "case", "record", "stats", "machine", "catalog", "store", "cost", "claims",
         "exchange", "report", "scaling", "contracts", "registry", "weights", "parallel", "backends", "scenarios",
         "measure", "suites", "launch", "worker", "runner", "pairing", "cli", "__main__")
"""From above to below: a file imports from its own room and those before it."""

TORCH_FREE = ROOMS[:ROOMS.index("report") + 1]
HEAVY = {"torch", "transformers", "diffusers", "peft", "torch_neuronx", "torch_xla"}

Import = tuple[str, str, int]  # module, the name taken from it ("" for the module itself), line


def files(folder: str) -> list[str]:
    """Paths of a folder's Python files, relative to the repository."""
    return sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.py"))


def imports(path: str, source: str) -> Iterator[Import]:
    """Yield every import of a file, those inside functions too, but for `if TYPE_CHECKING` blocks."""
    waiting: list[ast.AST] = [ast.parse(source, path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = Path(path).parts[:-node.level] if node.level else ()
            module = ".".join((*package, *([node.module] if node.module else [])))
            yield from ((module, alias.name, node.lineno) for alias in node.names)


def room_of(path: str) -> str:
    """`bench/store/places.py` -> "store"; "" for bench/__init__.py, which is in none."""
    name = Path(path).parts[1].removesuffix(".py")
    return "" if name == "__init__" else name


def wrong_rooms(path: str, source: str) -> list[str]:
    """Imports from a room below the file's own, as "path:line imports room"."""
    own = room_of(path)
    if own and own not in ROOMS:
        return [f"{path}: room {own!r} is not in ROOMS"]
    allowed = ROOMS[:ROOMS.index(own) + 1] if own else ()
    found = []
    for module, name, line in imports(path, source):
        parts = module.split(".")
        if parts[0] != "bench":
            continue
        room = parts[1] if len(parts) > 1 else name if name in ROOMS else ""
        if room and room not in allowed:
            found.append(f"{path}:{line} imports {room}")
    return found


def heavy_imports(path: str, source: str) -> list[str]:
    return [f"{path}:{line} imports {module}" for module, _, line in imports(path, source)
            if module.split(".")[0] in HEAVY]


def backends_entangled(path: str, source: str) -> list[str]:
    """A backend that imports another one; files that start with "_" are shared by all."""
    own = Path(path).parts[2].removesuffix(".py")
    siblings = {p.stem for p in (ROOT / "bench/backends").iterdir()} | {own}
    found = []
    for module, name, line in imports(path, source):
        parts = module.split(".")
        if parts[:2] != ["bench", "backends"]:
            continue
        other = parts[2] if len(parts) > 2 else name if name in siblings else ""
        if other and other != own and not other.startswith("_"):
            found.append(f"{path}:{line} imports {other}")
    return found


def is_backend(node: ast.AST) -> bool:
    """What holds a backend's name: `backend`, `case.backend`, `backend.name`, `x["backend"]`."""
    if isinstance(node, ast.Name):
        return node.id in ("backend", "backend_name")
    if isinstance(node, ast.Attribute):
        return node.attr in ("backend", "backend_name") or (node.attr == "name" and is_backend(node.value))
    return (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
            and node.slice.value == "backend")


def literals(node: ast.AST) -> set[str]:
    """The texts in a literal, or in a tuple, list or set of them; "auto" is no backend's name."""
    inner = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return {n.value for n in inner if isinstance(n, ast.Constant) and isinstance(n.value, str)} - {"auto", ""}


def backend_asked(path: str, source: str) -> list[str]:
    """Places that compare a backend's name with a literal: what differs is asked of the backend."""
    found = []
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asked = any(map(is_backend, sides)) and any(map(literals, sides))
        elif isinstance(node, ast.Match):
            asked = is_backend(node.subject)
        else:
            asked = (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                     and node.func.attr in ("startswith", "endswith") and is_backend(node.func.value))
        if asked:
            found.append(f"{path}:{getattr(node, 'lineno', 0)} asks which backend it is")
    return found


def over(paths: list[str], rule: object) -> list[str]:
    assert callable(rule)
    assert paths, "no files to look at"
    return [text for path in paths for text in rule(path, (ROOT / path).read_text("utf-8"))]


def test_every_file_imports_only_from_rooms_above_it() -> None:
    assert over(files("bench"), wrong_rooms) == []


def test_rooms_that_read_records_never_import_torch() -> None:
    assert over([p for p in files("bench") if room_of(p) in TORCH_FREE], heavy_imports) == []


def test_backends_do_not_import_one_another() -> None:
    assert over(files("bench/backends"), backends_entangled) == []


def test_nobody_but_a_backend_asks_which_backend_it_is() -> None:
    outside = [p for p in files("bench") + files("workloads") if room_of(p) != "backends"]
    assert over(outside, backend_asked) == []


def test_all_that_is_asked_of_a_backend_fits_on_one_screen() -> None:
    page = ast.parse((ROOT / "bench/contracts.py").read_text())
    classes = {node.name: node for node in page.body if isinstance(node, ast.ClassDef)}
    lines = classes["Probe"].end_lineno or 0
    assert classes["Device"].lineno < classes["Backend"].lineno < classes["Probe"].lineno
    assert lines - classes["Device"].lineno + 1 <= 60


def test_importing_all_rooms_that_read_records_leaves_torch_out() -> None:
    """In a clean interpreter, as a third party's import can't be seen by reading ours."""
    modules = [p.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for p in files("bench")
               if room_of(p) in TORCH_FREE]
    assert "bench.record" in modules
    code = (f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
            f"print(sorted({HEAVY!r} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


# The rules themselves, on planted offences


@pytest.mark.parametrize("source", [
    "from bench.store import save", "import bench.store.places", "from bench import store",
    "from ..store import save", "from .. import store", "def f():\n    from bench.store import save",
    "if TYPE_CHECKING:\n    pass\nelse:\n    import bench.store"])
def test_an_import_from_below_is_found_however_it_is_written(source: str) -> None:
    assert len(wrong_rooms("bench/machine/x.py", source)) == 1


@pytest.mark.parametrize("source", [
    "from bench.errors import BenchError", "from bench.machine.cpu import cpu", "from .cpu import cpu",
    "from bench import __version__", "import json", "import benchmarks.store",
    "if TYPE_CHECKING:\n    from bench.store import save",
    "import typing\nif typing.TYPE_CHECKING:\n    from bench.store import save"])
def test_an_import_from_above_or_for_types_alone_is_allowed(source: str) -> None:
    assert wrong_rooms("bench/machine/x.py", source) == []


def test_a_room_that_is_not_in_the_list_is_an_offence() -> None:
    assert len(wrong_rooms("bench/attic/x.py", "")) == 1


def test_torch_is_found_inside_functions_but_not_where_it_is_for_types_alone() -> None:
    assert len(heavy_imports("bench/stats/x.py", "def f():\n    from torch import nn")) == 1
    assert heavy_imports("bench/stats/x.py", "if TYPE_CHECKING:\n    import torch\nimport torchlike") == []


def test_a_backend_may_import_its_own_folder_and_shared_files_but_no_other_backend() -> None:
    def offences(source: str, path: str = "bench/backends/mine/a.py") -> int:
        return len(backends_entangled(path, source))

    assert offences("from bench.backends.cpu import BACKEND") == 1
    assert offences("from bench.backends import cpu") == 1
    assert offences("from ..cpu import BACKEND") == 1
    assert offences("from bench.backends.cpu import BACKEND", "bench/backends/_shared.py") == 1
    assert offences("from bench.backends._eager import x") == 0
    assert offences("from bench.backends.mine.b import x") == 0
    assert offences("from bench.backends import something") == 0


@pytest.mark.parametrize(("source", "offences"), [
    ("if backend == 'cpu': pass", 1), ("if 'cuda' != case.backend: pass", 1),
    ("x = case.backend in ('cuda', 'neuron')", 1), ("x = backend.name == 'cpu'", 1),
    ("x = row['backend'] == 'cpu'", 1), ("x = case.backend.startswith('neuron')", 1),
    ("match case.backend:\n    case 'cpu': pass", 1),
    ("x = backend == 'auto'", 0), ("x = a.backend == b.backend", 0), ("x = backend is None", 0),
    ("x = row['chip'] == 'cpu'", 0), ("x = load(backend='cpu')", 0)])
def test_asking_which_backend_it_is_is_found(source: str, offences: int) -> None:
    assert len(backend_asked("bench/measure/x.py", source)) == offences
