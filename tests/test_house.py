"""The house: imports run one way, and the algorithm stands in front. Read from the code's own import statements."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from conftest import needs

REPO = Path(__file__).parents[1]
ALGORITHM = ("problem", "prompts", "rollout", "verify", "rewards", "recycle", "loss", "reflect")
GROUND = ("problem", "loss", "prompts", "config", "seeds")
MODULES = {  # a package is its __init__.py, under its folder's name
    ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [REPO / "train.py", REPO / "evaluate.py", *sorted(REPO.glob("spark_lib/**/*.py"))]
}


def imports_of(source: str) -> set[str]:
    """The modules of ours that a source text imports anywhere, also inside functions and for typing only. What is said
    counts: a module of a package brings the package with it, but need not know what else is in there."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import that is relative would be overlooked here"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in whole}
    return found & set(MODULES)


LINES = {name.removeprefix("spark_lib."): len(path.read_text(encoding="utf-8").splitlines())
         for name, path in MODULES.items()}
IMPORTS = {name: imports_of(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


@cache
def floor(name: str, above: tuple[str, ...] = ()) -> int:
    """1 for a module that imports none of ours, else one more than the highest that it imports."""
    if name in above:
        raise AssertionError("a circle of imports: " + " -> ".join([*above[above.index(name):], name]))
    return 1 + max((floor(other, (*above, name)) for other in sorted(IMPORTS[name])), default=0)


def wing(name: str) -> str | None:
    """The folder inside spark_lib that a module stands in, or that a package is."""
    parts = name.split(".")
    return parts[1] if len(parts) > 2 or MODULES[name].name == "__init__.py" and len(parts) > 1 else None


def test_imports_are_read():
    """Guards the reader itself: a test that sees no imports finds no circle either."""
    assert "spark_lib.loss" in IMPORTS["spark_lib.model.packing"]
    assert "spark_lib.model.vision" in IMPORTS["spark_lib.rollout"]
    assert imports_of("def f():\n    from spark_lib import seeds\n    import spark_lib.run") == {
        "spark_lib.seeds", "spark_lib.run"}
    assert "spark_lib.view" in IMPORTS["evaluate"]  # a name that a package's __init__ has is an import of the package
    assert imports_of("from spark_lib.view import write_page, rows") == {"spark_lib.view", "spark_lib.view.rows"}
    assert [wing(name) for name in ("spark_lib", "spark_lib.loss", "spark_lib.view", "spark_lib.view.rows")] == [
        None, None, "view", "view"]


def test_no_circle_and_few_floors():
    assert max(map(floor, MODULES)) <= 8


@pytest.mark.parametrize("name", GROUND)
def test_the_ground_floor_stands_on_nothing(name: str):
    assert IMPORTS[f"spark_lib.{name}"] <= {f"spark_lib.{other}" for other in GROUND}


def test_nothing_imports_the_scripts():
    assert not [name for name, imported in IMPORTS.items() if imported & {"train", "evaluate"}]


@pytest.mark.parametrize("name", ALGORITHM)
def test_the_algorithm_imports_no_wing_but_answers_sampling_and_what_that_stands_on(name: str):
    """A student who reads the eight files is never sent to what is optional."""
    assert {wing(other) for other in IMPORTS[f"spark_lib.{name}"]} <= {None, "answers", "sampling", "model"}


def test_the_algorithm_is_an_evening():
    assert sum(LINES[name] for name in ALGORITHM) <= 1300


def test_the_readme_lists_the_path_as_it_is():
    """A reading list that has gone stale sends its reader astray: the same files, with lines to within a tenth."""
    text = (REPO / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+)\.py\]\(spark_lib/\1\.py\) \| (\d+) \|", text, re.MULTILINE)
    assert [name for name, _ in listed] == list(ALGORITHM)
    for name, stated in listed:
        assert int(stated) == pytest.approx(LINES[name], rel=0.1, abs=5), name
    (total,) = re.findall(r"the whole algorithm, (\d+) lines", text)
    assert int(total) == pytest.approx(sum(LINES[name] for name in ALGORITHM), rel=0.1)


@pytest.mark.parametrize("name", MODULES)
def test_no_file_is_too_long(name: str):
    assert LINES[name.removeprefix("spark_lib.")] <= 350


@pytest.mark.parametrize("path", sorted(REPO.glob("tests/**/*.py")), ids=lambda path: path.name)
def test_no_test_file_is_too_long(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize(("ci", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_what_is_not_installed_is_no_excuse_in_ci(monkeypatch, ci, outcome):
    """Where .ci/run has lost a requirements file, the notebooks and the peers were skipped and all was green."""
    monkeypatch.setenv("CI", ci)
    needs("pytest", listed="requirements.txt")
    with pytest.raises(outcome, match="needs no_such_module: pip install -r x.txt"):
        needs("pytest", "no_such_module", listed="x.txt")
    skipping = "importor" + "skip"
    assert not [path.name for path in REPO.glob("tests/**/*.py") if skipping in path.read_text(encoding="utf-8")]
    script = (REPO / ".ci" / "run").read_text(encoding="utf-8")
    assert all(f"-r {file}" in script for file in ("tests/perf/requirements.txt", "docs/lessons/requirements.txt"))


def test_the_browser_tests_are_not_skipped_in_ci():
    """As all that `needs` what is not there they are left out, but never where CI is set; .ci/run sets it itself."""
    script = (REPO / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nexport CI=1" in script and script.index("export CI=1") < script.index("pytest -m slow")
