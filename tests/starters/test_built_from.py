"""The note beside the shipped weights: what they were built from, and what counts as a change of it."""

import json
import shutil
from pathlib import Path

import pytest

from spark_lib.starters import built_from

REPO = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["text", "pictures"])
def test_the_shipped_weights_were_built_from_this_code(name):
    """The shipped weights must be what the shipped code builds, not a lucky leftover: once they were not. If this is
    red, `python -m spark_lib.starters.<name>` builds and stamps them (twenty minutes on two cores). Where nothing but
    a name changed, built_from.stamp alone will do."""
    folder, module = REPO / "spark_lib" / "starters" / f"{name}_model", REPO / "spark_lib" / "starters" / f"{name}.py"
    changed = built_from.changed(folder, module)
    assert not changed, f"build the starter again: python -m spark_lib.starters.{name}; what changed: {changed}"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """copy(file, old, new): edits a copy of the code; what then changed of the text starter, and of the other."""
    shutil.copytree(REPO / "spark_lib", tmp_path / "spark_lib")
    shutil.copy(REPO / "requirements.txt", tmp_path)
    monkeypatch.setattr(built_from, "REPO", tmp_path)
    wing = tmp_path / "spark_lib" / "starters"

    def edit(file: str, old: str, new: str) -> tuple[list[str], list[str]]:
        content = (tmp_path / file).read_bytes()
        assert old.encode() in content
        (tmp_path / file).write_bytes(content.replace(old.encode(), new.encode(), 1))
        return tuple(built_from.changed(wing / f"{name}_model", wing / f"{name}.py") for name in ("text", "pictures"))

    return edit


@pytest.mark.parametrize("file, old, new, text, pictures", [
    ("starters/text.py", "slip: float = 0.3", "slip: float = 0.31", ["text.Adder"], []),
    ("starters/text.py", "0.5 * settled, 3", "0.6 * settled, 3", ["text.teach"], ["text.teach"]),
    ("starters/text.py", "SKILLED, DECAY = 2250", "SKILLED, DECAY = 2251", ["text.PRACTICE"], []),
    ("starters/pictures.py", "skip: float = 0.2 ", "skip: float = 0.3 ", [], ["pictures.Counter"]),
    ("prompts.py", "Reason step by step", "Reason", ["prompts.SOLVE"], ["prompts.SOLVE"]),
    ("recycle.py", "def compare(own: str", "def compare(own_: str", ["recycle.compare"], ["recycle.compare"]),
    ("data/shapes.py", "GRID, MOST = 16", "GRID, MOST = 17", [], ["shapes.CELL"]),
    ("starters/text_model/built_from.json", '"seed": 0', '"seed": 1', ["seed"], []),
])
def test_a_change_is_noticed_and_named(copy, file, old, new, text, pictures):
    """Guards each way from cold_start to what it teaches: methods, constants, other modules, defaults of fields."""
    assert copy(f"spark_lib/{file}", old, new) == (text, pictures)


@pytest.mark.parametrize("file, old, new", [
    ("starters/text.py", "# of an addition: a digit off by one", "# else"),
    ("starters/text.py", '"""Adds three numbers."""', '"""Adds."""'),
    ("starters/text.py", "seed: int = 0, max_steps", "seed: int = 0,\n    max_steps"),
    ("starters/text.py", 'print(f"starter saved', 'print(f"saved'),
    ("verify.py", "import", "import string\nimport"),
    ("sampling/decode.py", "import", "import string\nimport"),
])
def test_what_changes_nothing_that_is_taught_does_not_count(copy, file, old, new):
    """Guards against twenty minutes for a comment."""
    assert copy(f"spark_lib/{file}", old, new) == ([], [])


def test_a_definition_may_move(copy, tmp_path):
    """Guards a reader who sorts the modules: the place of a function is not what it does."""
    recycle = tmp_path / "spark_lib" / "recycle.py"
    shutil.copy(recycle, recycle.with_name("compare.py"))
    both = copy("spark_lib/starters/text.py", "from spark_lib.recycle import compare",
                "from spark_lib.compare import compare")
    assert both == ([], [])


def test_other_weights_and_other_libraries_are_noticed(copy, tmp_path):
    assert copy("requirements.txt", "torch==", "torch==1.") == (["torch"], ["torch"])
    weights = tmp_path / "spark_lib" / "starters" / "text_model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert copy("requirements.txt", "torch==1.", "torch==") == (["weights"], [])


def test_a_build_leaves_its_note(copy, tmp_path):
    """Guards the command that the first test names: what it stamps is what is compared."""
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    module = tmp_path / "spark_lib" / "starters" / "text.py"
    built_from.stamp(folder, module, 0)
    installed = json.loads((folder / "built_from.json").read_text())["libraries"]
    assert set(built_from.changed(folder, module)) <= set(installed)  # where other versions than the pins are installed
    built_from.stamp(folder, module, 3)
    assert "seed" in built_from.changed(folder, module)
