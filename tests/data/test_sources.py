"""Data that is not in files of one's own: hub sets, and the tasks of reasoning-gym."""

import re
import time

import datasets
import pytest
from huggingface_hub.errors import RepositoryNotFoundError
from rows import load_all, questions, sums

from spark_lib.config import ConfigError
from spark_lib.data import sources
from spark_lib.data.load import load_problems, split_of
from spark_lib.verify import same_answer

# --- the hub --------------------------------------------------------------------------------------------------


@pytest.fixture
def no_hub(monkeypatch):
    """The hub's address leads nowhere."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize("part", ["", ":main", ":folder/file.json"])
def test_a_hub_out_of_reach_costs_no_minute(no_hub, part):
    """Guards machines without internet: the libraries retry for half a minute, then say nothing that helps."""
    start = time.time()
    with pytest.raises(ConfigError) as error:
        load_problems("some-owner/some-set" + part)
    assert time.time() - start < 5
    assert "hf download some-owner/some-set --repo-type dataset --local-dir some-set" in str(error.value)
    assert "data=some-set" + part.replace(":", "/") in str(error.value) and "\n" not in str(error.value)


def test_a_hub_set_keeps_its_official_splits(monkeypatch):
    """Guards `data=openai/gsm8k:main`: the config is passed on, and test is the hub's test."""
    asked = []

    def load_dataset(*words):
        asked.append(words)
        parts = {"train": range(100), "test": range(100, 120), "validation_matched": range(120, 130)}
        return datasets.DatasetDict({name: datasets.Dataset.from_list(sums(part)) for name, part in parts.items()})

    monkeypatch.setattr(sources, "hub_reached", lambda name: True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = {split: len(problems) for split, problems in load_all("some-owner/some.set:main").items()}
    assert found == {"train": 100, "validation": 10, "test": 20}
    load_problems("some-owner/some.set")
    assert asked[0] == ("some-owner/some.set", "main") and asked[-1] == ("some-owner/some.set", None)


def test_what_the_hub_says_is_told(monkeypatch):
    """Guards a missing config name: the hub's own list of them reaches the user, in one line."""
    def load_dataset(*words):
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['main', 'socratic']")

    monkeypatch.setattr(sources, "hub_reached", lambda name: True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConfigError, match=r"cannot load 'a/b' from the hub: .*\['main', 'socratic'\]"):
        load_problems("a/b")


def test_a_set_that_the_hub_does_not_have_is_told(monkeypatch):
    class Api:
        def __init__(self, endpoint): ...

        def dataset_info(self, name, timeout):
            raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(ConfigError, match="no file or folder 'data/mine' here, and no such data set on the hub"):
        load_problems("data/mine")


# --- reasoning-gym --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", sources.TASKS)
def test_the_verifier_agrees_with_the_tasks_own_scorer(task):
    """Guards TASKS: on every pair of answers that occur, verify.py and reasoning-gym's scorer say the same."""
    import reasoning_gym

    data = reasoning_gym.create_dataset(task, seed=1, size=12)
    entries = list({data[i]["answer"]: data[i] for i in range(12)}.values())
    for entry in entries:
        for other in entries[:3] + [entry]:
            right = data.score_answer(other["answer"], entry) == 1
            assert same_answer(other["answer"], entry["answer"]) == right, (other["answer"], entry["answer"])


def test_reasoning_gym_is_split_and_seeded():
    """Guards generators: another seed is other data, the run's seed is not, and no split sees another's questions."""
    options = {"size": 300, "max_terms": 3, "min_digits": 2, "max_digits": 2}
    found = load_all("reasoning_gym:chain_sum", options=options)
    assert len(set.union(*map(questions, found.values()))) == sum(map(len, found.values())) > 290
    for split, problems in found.items():
        for problem in problems:
            terms = re.fullmatch(r".*problem: ([\d +-]+) =", problem.meta["question"])[1]
            assert split_of(problem.meta["question"]) == split and len(terms.split()) in (3, 5)
            assert problem.answer == str(eval(terms))
    train_questions = questions(found["train"])
    assert questions(load_problems("reasoning_gym:chain_sum", seed=5, options=options)) == train_questions
    other = questions(load_problems("reasoning_gym:chain_sum", options=options | {"seed": 10_000}))
    assert len(other & train_questions) < 30


@pytest.mark.parametrize(
    "task, options, message",
    [
        ("gsm_symbolik", {}, "'gsm_symbolik' is no task of reasoning-gym; tasks that can be used: gsm_symbolic"),
        ("countdown", {}, "'countdown' can have several right answers, or one that verify.py cannot compare"),
        ("chain_sum", {"max_term": 3}, "data_options: chain_sum has no option 'max_term'; did you mean 'max_terms'"),
        ("chain_sum", {"colour": 3}, "data_options: chain_sum has no option 'colour'; it has min_terms, max_terms"),
        ("chain_sum", {"min_terms": 9}, "data_options: chain_sum does not take .*max_terms must be >= min_terms"),
        ("gsm_symbolic", {"difficulty": 7}, "data_options: gsm_symbolic does not take"),
        ("chain_sum", {"min_terms": "many"}, "data_options: chain_sum does not take"),
    ],
)
def test_a_task_that_cannot_be_meant_is_named(task, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_problems(f"reasoning_gym:{task}", options=options)
    assert "\n" not in str(error.value)
