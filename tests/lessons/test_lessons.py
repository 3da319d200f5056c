"""Lessons rot where nobody runs them: each is run as a script, as a notebook, and through its exercises."""

import ast
import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import needs

REPO = Path(__file__).parents[2]
FOLDER = REPO / "docs" / "lessons"
LESSONS = sorted(path.stem for path in FOLDER.glob("[0-9]_*.py"))
PLACEHOLDER = re.compile(r"^(my_\w+) = \.\.\.", re.MULTILINE)
QUESTION = re.compile(r'answered\("(.+?)", ([\w, ]+)\)')
SECONDS = 120  # of a CPU that a lesson may take: a minute on two cores
every = pytest.mark.parametrize("name", LESSONS)


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def cells_of(script: str) -> list[tuple[str, str]]:
    """("markdown" or "code", source) of the cells of a percent script."""
    cells = []
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            body = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip("\n").split("\n"))
        cells.append(("markdown" if "[markdown]" in head else "code", body.strip("\n")))
    return cells


def wrong_answers(name: str) -> list[dict[str, str]]:
    return yaml.safe_load(Path(__file__).with_name("wrong").joinpath(f"{name}.yaml").read_text(encoding="utf-8"))


def assigned(code: str) -> set[str]:
    """The names that a piece of code gives a value to at its top level."""
    tree = ast.parse(code).body
    targets = [target for node in tree if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets} | {node.name for node in tree if isinstance(node, ast.FunctionDef)}


def test_there_are_lessons():
    """Else all that follows runs over nothing."""
    assert LESSONS and len({name[0] for name in LESSONS}) == len(LESSONS)


@every
def test_a_lesson_is_short_and_whole(name: str):
    """At most 120 lines of code, two or three exercises with solutions and wrong answers, a figure, links that lead
    somewhere, a line in the table."""
    text = text_of(name)
    code = "\n".join(source for kind, source in cells_of(text) if kind == "code")
    assert sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in code.splitlines()) <= 120
    asked = [set(names.split(", ")) for _, names in QUESTION.findall(text)]
    assert len(asked) in (2, 3) and set().union(*asked) == set(PLACEHOLDER.findall(text))
    assert set().union(*asked) <= assigned((FOLDER / "solutions" / f"{name}.py").read_text(encoding="utf-8"))
    assert all(any(assigned(wrong["put"]) & names for wrong in wrong_answers(name)) for names in asked)
    assert (FOLDER / "figures" / f"{name}.svg").stat().st_size < 150_000
    assert f"[{name}.py]({name}.py)" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["README.md", *(f"{name}.py" for name in LESSONS)])
def test_links_lead_somewhere(file: str):
    for link in re.findall(r"\]\(([^)\s]+)\)", (FOLDER / file).read_text(encoding="utf-8")):
        assert link.startswith("https://") or (FOLDER / link.split("#")[0]).exists(), link


@every
def test_the_notebook_is_that_of_the_script(name: str):
    """The same cells behind the first one, and outputs without an error, as they were built."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    first, *cells = notebook["cells"]
    assert "git" in "".join(first["source"]) and not first["outputs"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == cells_of(text_of(name))
    kinds = {output.get("name", output["output_type"]) for cell in cells for output in cell.get("outputs", ())}
    assert kinds == {"stdout", "display_data"}  # neither errors nor warnings, which name the builder's folders


@pytest.fixture
def copy(tmp_path):
    """The folder of a copy of the lessons that has the kit beside it: what a lesson draws stays in it."""
    for name in ("spark_lib", "train.py", "evaluate.py", "configs"):
        (tmp_path / name).symlink_to(REPO / name)
    return Path(shutil.copytree(FOLDER, tmp_path / "docs" / "lessons"))


@pytest.mark.slow
@every
def test_it_runs_as_a_script(name: str, copy):
    """From another folder, with all exercises open, within its time."""
    figure = copy / "figures" / f"{name}.svg"
    figure.unlink()
    before = os.times()
    done = subprocess.run([sys.executable, copy / f"{name}.py"], cwd=copy.parents[1], capture_output=True, text=True,
                          timeout=400, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = os.times()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": not answered yet") == len(QUESTION.findall(text_of(name)))
    assert "<dc:date>" not in figure.read_text(encoding="utf-8")
    assert after.children_user - before.children_user < SECONDS


@pytest.mark.slow
@every
def test_its_exercises_know_right_from_wrong(name: str, copy, monkeypatch):
    """Cell by cell: each wrong answer is told what is wrong with it, the solution passes and stays."""
    monkeypatch.setattr(sys, "path", [str(copy), *sys.path])
    monkeypatch.delitem(sys.modules, "lesson", raising=False)
    solutions = (copy / "solutions" / f"{name}.py").read_text(encoding="utf-8")
    space = {"__name__": "lesson_of_a_test"}
    for kind, source in cells_of(text_of(name)):
        if kind == "markdown":
            continue
        if question := QUESTION.search(source):
            for wrong in wrong_answers(name):
                exec(solutions, space)
                if assigned(wrong["put"]) & set(question[2].split(", ")):
                    exec(wrong["put"], space)
                    with pytest.raises(AssertionError, match=re.escape(wrong["says"])):
                        exec(source, space)
            exec(solutions, space)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(source, space)
        assert "not answered yet" not in printed.getvalue()


@pytest.mark.slow
@every
def test_it_runs_as_a_notebook(name: str, copy, monkeypatch):
    """By docs/lessons/build.py, which raises where a cell does; figures are drawn in the page."""
    needs("jupytext", "nbclient", "ipykernel", listed="docs/lessons/requirements.txt")
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the kernel: tests run side by side
    notebook = importlib.import_module("build").build(copy / f"{name}.py")
    drawn = [out for cell in notebook.cells for out in cell.get("outputs", ()) if out.output_type == "display_data"]
    assert drawn and all("image/png" in out.data for out in drawn)
