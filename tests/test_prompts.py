r"""Prompts: every template asks for a form that the verifier credits.

The authors' judge templates asked for \box{} while their verifier read \boxed{}: no verdict was ever right.
"""

import random
import re

import pytest

from spark_lib import prompts
from spark_lib.data.load import solve_problem
from spark_lib.problem import KINDS, Problem
from spark_lib.verify import verify

TEMPLATES = [(kind, template) for kind, templates in prompts.TEMPLATES.items() for template in templates]
FIELDS = {"question": "12 + 34 + 56 = ?", "candidate": "92", "a": "102", "b": "92"}
ANSWERS = {"solve": ("102", "92"), "pointwise": ("No", "Yes"), "pairwise": ("A", "B"), "reflect": ("102", "92")}


@pytest.mark.parametrize("kind, template", TEMPLATES)
def test_the_form_that_a_template_asks_for_is_credited(kind, template):
    """Guards the answer form: the box named in the prompt, filled in as asked, is right, and another answer wrong."""
    prompt = template.format(**FIELDS)
    right, wrong = ANSWERS[kind]
    problem = Problem(prompt, right, kind)
    forms = re.findall(r"\\box\w*\{.*?\}", prompt)
    assert forms
    answers = {form for form in forms if form != "\\boxed{}"} or {f"\\boxed{{{right}}}", f"\\boxed{{{wrong}}}"}
    assert {form: verify(f"I worked it out: {form}", problem) for form in answers} == {
        f"\\boxed{{{right}}}": True, f"\\boxed{{{wrong}}}": False
    }
    assert not verify(f"I worked it out: {right}", problem)  # only a box counts


@pytest.mark.parametrize("kind, template", TEMPLATES)
def test_every_template_shows_the_question_last_and_every_candidate(kind, template):
    """Guards against a template that forgets a field: a judge without the candidate can only guess."""
    names = {"solve": [], "pointwise": ["candidate"], "pairwise": ["a", "b"], "reflect": ["candidate"]}[kind]
    found = re.findall(r"(?<!\{)\{(\w+)\}(?!\})", template)
    assert found == [*names, "question"]  # a before b
    assert template.format(**FIELDS).endswith("\n" + FIELDS["question"])


def test_no_phrasing_is_the_only_one():
    """Guards against a judge that learns one sentence: three different phrasings or more, and render uses them all."""
    assert set(prompts.TEMPLATES) == set(KINDS)
    rng = random.Random(0)
    for kind, templates in prompts.TEMPLATES.items():
        drawn = {prompts.render(kind, rng, **FIELDS) for _ in range(200)}
        assert drawn == {template.format(**FIELDS) for template in templates} and len(drawn) >= 3


def test_render_draws_from_its_rng_only():
    """Guards reproducibility: the phrasing is the generator's choice, whatever the global random state."""
    draws = []
    for seed in (1, 2):
        random.seed(seed)
        rng = random.Random(5)
        draws.append([prompts.render("reflect", rng, **FIELDS) for _ in range(20)])
    assert draws[0] == draws[1]


@pytest.mark.parametrize(
    "text",
    ["{question}", "{0}", "{}", "{{x}}", "\\boxed{", "\\boxed{Yes}}", "{candidate!r}", "%s $x \\1", "{a.b[0]}"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_text_is_inserted_as_it_stands(kind, text):
    """Guards untrusted text: a candidate or question with braces is data, never a template."""
    fields = {name: f"<{name} {text}>" for name in FIELDS}
    for seed in range(6):
        prompt = prompts.render(kind, random.Random(seed), **fields)
        for name in {"pairwise": ("a", "b"), "solve": ()}.get(kind, ("candidate",)):
            assert prompt.count(f"<{name} {text}>") == 1
        assert prompt.endswith(f"<question {text}>")


def test_a_solve_problem_keeps_the_bare_question():
    """Guards recycling, which shows the question without the instruction of the solve prompt."""
    problem = solve_problem("1 + {x} = ?", "3", random.Random(0), image="a.png", choices=("3", "4"))
    assert problem.meta == {"question": "1 + {x} = ?"}
    assert (problem.kind, problem.answer, problem.image, problem.choices) == ("solve", "3", "a.png", ("3", "4"))
    assert problem.prompt.endswith("\n1 + {x} = ?")
