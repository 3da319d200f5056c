"""What every lesson imports first: where the kit is, exercises that wait for an answer, and figures."""

import io
import sys
from pathlib import Path

import matplotlib

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))  # the kit, wherever a lesson is started from
if "ipykernel" not in sys.modules:
    matplotlib.use("Agg")  # a script shows no windows
matplotlib.rcParams["svg.hashsalt"] = "spark"  # names within an SVG are then the same each time
RIGHT, WRONG, GREY = "#2ca02c", "#d62728", "#999999"


def answered(exercise: str, *answers: object) -> bool:
    """Whether the student has put something in the place of every `...`; says so where not."""
    if any(answer is ... for answer in answers):
        print(f"{exercise}: not answered yet")
        return False
    return True


def show(figure, name: str | None = None) -> None:
    """Draw a matplotlib figure in a notebook; with a name, also save it as figures/<name>.svg."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    if name:
        figure.savefig(HERE / "figures" / f"{name}.svg", metadata={"Date": None})
        print(f"figure: figures/{name}.svg")
    if "ipykernel" in sys.modules:
        from IPython.display import Image, display

        image = io.BytesIO()
        figure.savefig(image, dpi=90, metadata={"Software": None})
        display(Image(image.getvalue()))
    matplotlib.pyplot.close(figure)
