"""The pages: no link leads nowhere, no note of a run points to a section that is gone, no key is one that was."""

import ast
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from spark_lib import report
from spark_lib.config import Config, leaves
from spark_lib.evaluation.settings import Evaluation
from spark_lib.resuming import MAY_CHANGE

REPO = Path(__file__).parents[1]
PAGES = [REPO / "README.md", *sorted(REPO.glob("docs/**/*.md"))]
SOURCES = [REPO / "train.py", REPO / "evaluate.py", *sorted(REPO.glob("spark_lib/**/*.py"))]
POINTER = re.compile(r'(docs/[\w/-]+\.md), "([^"]+)"')


def without_code(text: str) -> str:
    """The page without its code blocks, in which brackets are no links and a # is no heading."""
    return re.sub(r"^```.*?^```|^    .*?$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub makes it: lower case, without marks, a dash for a space."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def said_in(source: str) -> list[str]:
    """Every string of a source text as one piece, however it is split over lines; {} stands for what is filled in.
    Docstrings are left out."""
    tree = ast.parse(source)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            found.append(node.value)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree)
                  if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)}
    return [text for text in found if text not in docstrings]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_every_link_leads_somewhere(page):
    """A file that was moved leaves its links behind."""
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        name, _, place = unquote(target).partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not place or file.suffix != ".md" or place in map(anchor, headings(file)), target


def test_links_are_read():
    """Guards the readers above: what they pass over would never be wrong."""
    assert anchor("The paper's tables as `config` values") == "the-papers-tables-as-config-values"
    assert without_code("# a\n\n    # no\n```\n# no\n```\n# b\n").split() == ["#", "a", "#", "b"]
    assert said_in('"""doc"""\nsay(f"note: {x} is "\n    "gone")\n') == ["note: {} is gone"]


def test_every_page_is_linked():
    """A page that no other page links is read by nobody."""
    linked = {(page.parent / target.split("#")[0]).resolve()
              for page in PAGES for target in re.findall(r"\]\(([^)\s#]+\.md)", page.read_text(encoding="utf-8"))}
    assert not [page for page in REPO.glob("docs/*.md") if page not in linked]


def test_every_note_points_to_a_section():
    """Whoever is told that nothing was learned is told where it says why."""
    notes = [(path, text) for path in SOURCES for text in said_in(path.read_text(encoding="utf-8"))
             if text.startswith("note: ") and text != "note: {}"]
    assert len(notes) >= 7  # the reader sees them
    for path, text in notes:
        assert POINTER.search(text) or "({})" in text, f"{path.name}: {text}"  # {}: a constant, seen to below


def test_the_sections_that_are_pointed_to_exist():
    texts = [text for path in SOURCES for text in said_in(path.read_text(encoding="utf-8"))] + everything()
    pointed = {found for text in texts for found in POINTER.findall(text)}
    assert {"docs/nothing-is-learned.md", "docs/models.md", "docs/reliability.md", "docs/metrics.md"} == {
        page for page, _ in pointed}
    for page, section in pointed:
        assert section in headings(REPO / page), (page, section)


def everything() -> list[str]:
    """All warnings of a step in which everything goes wrong."""
    return report.warnings({"solve/truncated": 1.0, "update/rows": 0, "solve/reward": 0.0}, Config())


def test_warnings_are_one_line_and_say_where_to_look():
    assert len(everything()) == 3
    for text in everything():
        (page, _), = POINTER.findall(text)
        assert page == "docs/nothing-is-learned.md" and "\n" not in text


@pytest.mark.parametrize("reward, section", [(0.0, "Too hard"), (0.5, "Flat groups"), (1.0, "Too easy")])
def test_a_step_without_a_row_points_to_what_its_reward_tells(reward, section):
    """Where nothing was right, advice for responses that agree too much would lead away from the cause."""
    metrics = {"solve/truncated": 0.0, "update/rows": 0, "solve/reward": reward, "pointwise/reward": 0.0}
    (text,) = report.warnings(metrics, Config())
    assert POINTER.findall(text) == [("docs/nothing-is-learned.md", section)]


def test_pairs_may_want_for_a_wrong_candidate_though_all_had_a_box():
    metrics = {"solve/truncated": 0.0, "update/rows": 8, "solve/reward": 0.9}
    both, pairs = Config(), Config()
    pairs.recycle.kinds = ["pairwise"]
    assert len(report.warnings(metrics, both)) == 1 and not report.warnings(metrics, pairs)


def commands(text: str) -> list[str]:
    """Every command line of a page and every piece of code in its text, each on one line however it is split."""
    lines = re.findall(r"^ *python (?:.*\\\n)*.*$", text, re.MULTILINE)
    rest = re.sub(r"^```.*?^```|^ *python .*?$", "", text, flags=re.MULTILINE | re.DOTALL)
    pieces = [piece for paragraph in re.split(r"\n\s*\n", rest) for piece in re.findall(r"`([^`]+)`", paragraph)]
    return [" ".join(line.replace("\\\n", " ").split("  #")[0].split()) for line in [*lines, *pieces]]


def keys_of(command: str) -> list[str]:
    """What stands before a = in it, at the start of a word."""
    return re.findall(r"""(?:^|[\s"'])([a-z_.]+)=(?!=)""", command)


def test_commands_are_read():
    text = ("    python train.py lr=1 \\\n        seed=2   # not=this\n\n"
            "Say `python train.py\nresume=runs/a` or `x = 1`.\n")
    assert commands(text) == ["python train.py lr=1 seed=2", "python train.py resume=runs/a", "x = 1"]
    assert [keys_of(command) for command in commands(text)] == [["lr", "seed"], ["resume"], []]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in (
    "nothing-is-learned", "glossary", "variants", "models", "data", "reliability", "scale", "method", "metrics",
    "results/smollm2/tries", "results/README"))])
def test_keys_are_keys(page):
    """A key that was renamed lives on in the pages: whatever stands before a = in code there is a key, or in a list."""
    known = set(leaves(Config)) | set(leaves(Evaluation)) | {"only", "jobs", "lora", "tokenize"}
    used = {key for command in commands((REPO / page).read_text(encoding="utf-8")) for key in keys_of(command)}
    assert used and used <= known, used - known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_no_page_goes_on_with_a_run_in_a_way_that_is_refused(page):
    """Whoever was told to merge with eval.limit=0 was told by train.py that this would be another run."""
    going_on = [keys_of(command) for command in commands(page.read_text(encoding="utf-8")) if "resume=" in command]
    assert not {key for keys in going_on for key in keys} - MAY_CHANGE - {"resume"}


def test_ways_to_go_on_are_found():
    """Guards the test above, which else would pass over nothing."""
    found = [page.name for page in PAGES for one in commands(page.read_text(encoding="utf-8")) if "resume=" in one]
    assert {"README.md", "models.md", "glossary.md"} <= set(found)
