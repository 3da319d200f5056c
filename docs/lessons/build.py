"""Build the notebooks from the scripts, with their outputs.    python docs/lessons/build.py [lesson.py ...]

The scripts are the source. A notebook is one of them with a first cell for places that have no copy of the kit (Colab).
"""

import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

HERE = Path(__file__).parent
FIRST_CELL = """\
# Only where there is no copy of the kit yet, as in Colab: say where to get it and run this. Elsewhere it does nothing.
REPOSITORY = ""  # what you would give to `git clone`
import os, subprocess, sys
if not os.path.exists("lesson.py"):
    assert REPOSITORY, "put the address of the kit's repository between the quotes"
    subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, "spark-kit"], check=True)
    os.chdir("spark-kit/docs/lessons")
    sys.path.insert(0, os.getcwd())
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-r", "../../requirements.txt"], check=True)"""


def build(script: Path) -> NotebookNode:
    """The notebook of a lesson, run in the lesson's folder. Raises nbclient's CellExecutionError where a cell fails."""
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.cells.insert(0, new_code_cell(FIRST_CELL))
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    place = {"metadata": {"path": script.parent}}
    NotebookClient(notebook, timeout=600, record_timing=False, resources=place).execute()
    for i, cell in enumerate(notebook.cells):  # what is the machine's and not the lesson's: names, warnings, versions
        cell.id, cell.metadata = f"cell-{i}", {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main(names: list[str]) -> None:
    for script in [HERE / name for name in names] or sorted(HERE.glob("[0-9]_*.py")):
        jupytext.write(build(script), script.with_suffix(".ipynb"))
        print(f"{script.stem}.ipynb")


if __name__ == "__main__":
    main(sys.argv[1:])
