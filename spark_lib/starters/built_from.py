"""What the shipped starters were built from: a cold start takes twenty minutes, and is done again where that changed.

Beside the weights stands built_from.json with digests of all code that `cold_start` refers to, however far, of the
weights themselves, and the versions of the libraries. Comments, docstrings, layout and the place of a module do not
count; renaming does, as no digest can tell it from another meaning.
"""

import ast
import hashlib
import json
import re
import symtable
from functools import cache
from importlib.metadata import version
from pathlib import Path

REPO = Path(__file__).parents[2]
LIBRARIES = ("torch", "transformers", "pillow")
# What asks and marks the probes, which say when a phase is over, and errors: nothing is taught by it, so it may change.
MEASURE = ("load.arithmetic", "load.solve_problem", "problem.Problem", "rollout.sample", "verify.verify_many",
           "config.ConfigError")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def sources(module: Path, name: str = "cold_start") -> dict[str, str]:
    """"<module>.<name>" -> digest, of a function, class or constant and of all in spark_lib that it refers to."""
    found, waiting, files = {}, [(module, name)], cache(read)
    while waiting:
        module, name = waiting.pop()
        key = f"{module.stem}.{name}"
        definitions, imports = files(module)
        if key in found or key in MEASURE:
            continue
        if name in definitions:
            node = definitions[name]
            found[key] = digest(repr(form(node)).encode())
            waiting += [(module, other) for other in referred(node)]
            for part in ast.walk(node):  # module.name, where `import module` or `from package import module` stands
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in imports:
                    waiting += [(path, part.attr) for path in [file_of(".".join(imports[part.value.id]))] if path]
        elif name in imports and (path := file_of(imports[name][0])):
            waiting.append((path, imports[name][1]))
    return dict(sorted(found.items()))


def read(module: Path) -> tuple[dict[str, ast.stmt], dict[str, tuple[str, str]]]:
    """(definitions by name, imported names -> (module, name in it)) of a file."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    definitions = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                definitions |= assigned(target, node.value, node)
    imports = {alias.asname or alias.name: (node.module, alias.name) for node in ast.walk(tree)
               if isinstance(node, ast.ImportFrom) for alias in node.names}
    return definitions, imports


def assigned(target: ast.expr, value: ast.expr | None, node: ast.stmt) -> dict[str, ast.stmt]:
    """name -> what assigns it. Of A, B = 1, 2 each has an assignment of its own: a change of one is not the other's."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        pairs = zip(target.elts, value.elts)
        return {name.id: ast.Assign([name], own, lineno=node.lineno) for name, own in pairs}
    return {part.id: node for part in ast.walk(target) if isinstance(part, ast.Name)}


def file_of(module: str) -> Path | None:
    """The file of a module of ours."""
    path = REPO / (module.replace(".", "/") + ".py")
    return path if module.startswith("spark_lib") and path.exists() else None


def referred(node: ast.stmt) -> set[str]:
    """The names that a definition takes from its module: all but its own parameters and variables."""
    tables, names = [symtable.symtable(ast.unparse(node), "definition", "exec")], set()
    for table in tables:
        tables += table.get_children()
        names |= {s.get_name() for s in table.get_symbols()
                  if s.is_referenced() and (s.is_global() or s.is_imported() or table is tables[0])}
    return names


def form(node):
    """A syntax tree as nested lists: without docstrings, and without the empty fields in which Pythons differ."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *((name, form(value)) for name, value in fields)]
    if isinstance(node, list):
        return [form(x) for x in node if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))]
    return repr(node)


def stamp(folder: Path, module: Path, seed: int, libraries: dict[str, str] | None = None) -> None:
    """Write folder/built_from.json about the weights there, which `module`.cold_start(seed) has built."""
    libraries = libraries or {name: version(name).split("+")[0] for name in LIBRARIES}
    made = {"seed": seed, "weights": digest((folder / "model.safetensors").read_bytes()), "libraries": libraries,
            "code": sources(module)}
    (folder / "built_from.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def changed(folder: Path, module: Path) -> list[str]:
    """What of seed 0, weights, libraries (the pins of requirements.txt) and code is another than when it was built."""
    then = json.loads((folder / "built_from.json").read_text(encoding="utf-8"))
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", (REPO / "requirements.txt").read_text(), re.MULTILINE))
    code, found = sources(module), []
    found += ["seed"] * (then["seed"] != 0)
    found += ["weights"] * (then["weights"] != digest((folder / "model.safetensors").read_bytes()))
    found += [name for name in LIBRARIES if then["libraries"].get(name) != pins[name]]
    if sorted(code.values()) != sorted(then["code"].values()):  # by content: a definition may move
        found += sorted(name for name in code | then["code"] if code.get(name) != then["code"].get(name))
    return found
