"""docs/variants.md: every diff applies to the present code, and what it changes is the number that the paper's formula
gives, by hand or in float64. Each whole variant also trains two steps, in the slow part."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch.testing import assert_close

from spark_lib.config import Config, load_config
from spark_lib.loss import Row, group_advantages, rows_of_groups, token_weights
from spark_lib.model.packing import pack
from spark_lib.problem import Problem
from spark_lib.recycle import about
from spark_lib.reflect import Candidate, knockout
from spark_lib.resuming import values
from spark_lib.sampling.labels import relabel
from spark_lib.view import read

REPO = Path(__file__).parents[1]


def module_of(file: Path, name: str):
    """The Python file as a module of that name, which other modules do not see."""
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


catalogue = module_of(REPO / "docs" / "results" / "variants.py", "catalogue_of_variants")
PAGE = catalogue.PAGE.read_text(encoding="utf-8")
VARIANTS = {variant.name: variant for variant in catalogue.variants(PAGE)}
DIFFS = [pytest.param(diff, id=f"{v.slug}-{i}") for v in VARIANTS.values() for i, diff in enumerate(v.diffs)]


def files_of(diff: str) -> list[str]:
    return re.findall(r"^\+\+\+ b/(\S+)$", diff, re.MULTILINE)


def copy_files(diffs: list[str], folder: Path) -> None:
    for name in {name for diff in diffs for name in files_of(diff)}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((REPO / name).read_bytes())


@pytest.fixture
def patched(tmp_path):
    """patched("RLOO", "spark_lib/loss.py") -> the variant's module, its other files left as they are."""

    def build(name: str, file: str):
        diffs = [diff for diff in VARIANTS[name].diffs if file in files_of(diff)]
        copy_files(diffs, tmp_path)
        for diff in diffs:
            catalogue.apply(diff, tmp_path)
        return module_of(tmp_path / file, f"variant_{VARIANTS[name].slug.replace('-', '_')}_{Path(file).stem}")

    return build


def config_of(name: str, *words: str) -> Config:
    return load_config([*VARIANTS[name].keys, *words])


# --- the page -------------------------------------------------------------------------------------------------


def test_the_page_is_read():
    """Guards the reader itself: the issue's list, and no diff that it overlooks."""
    assert list(VARIANTS) == [
        "SPARK", "GRPO", "REINFORCE with a baseline", "RLOO", "Dr. GRPO", "DAPO", "GSPO", "CISPO", "TTRL", "GRPO-Verif",
        "Learning to Self-Verify", "PAG", "CoVerRL", "V1", "STV", "LaSeR"]
    assert len(DIFFS) == PAGE.count("```diff") == 11
    assert all(v.keys or v.diffs for v in VARIANTS.values() if v.name != "SPARK")


@pytest.mark.parametrize("diff", DIFFS)
def test_each_diff_applies_alone(diff, tmp_path):
    """A catalogue whose diffs no longer fit is found out by a student."""
    copy_files([diff], tmp_path)
    before = {name: (tmp_path / name).read_text() for name in files_of(diff)}
    catalogue.apply(diff, tmp_path)
    for name, old in before.items():
        new = (tmp_path / name).read_text()
        assert new != old
        compile(new, name, "exec")
        assert max(map(len, new.splitlines())) <= 120


def test_a_diff_that_does_not_fit_is_an_error(tmp_path):
    """`git apply` inside a repository passes over files that are not in it, and says nothing."""
    diff = VARIANTS["RLOO"].diffs[0]
    copy_files([diff], tmp_path)
    loss = tmp_path / "spark_lib" / "loss.py"
    loss.write_text(loss.read_text().replace("centred", "centered"))
    with pytest.raises(subprocess.CalledProcessError):
        catalogue.apply(diff, tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
def test_each_command_arrives(name):
    """Guards keys that are renamed or no longer read: what the page says stands in the configuration."""
    arrived = values(config_of(name))
    for word in VARIANTS[name].keys:
        key = word.split("=")[0]
        assert arrived[key] == OmegaConf.select(OmegaConf.from_dotlist([word]), key), word


def test_the_table_is_what_the_script_writes():
    """Figures of another command or diff than the page's must not stand in its table."""
    assert catalogue.with_table(PAGE) == PAGE


def test_figures_of_an_edited_diff_are_dropped(tmp_path, monkeypatch):
    """Guards the test above: whoever edits a diff on the page loses its figures until it has run again."""
    skills = dict.fromkeys(catalogue.SKILLS, 0.5)
    row = {"before": skills, "after": skills, "steps": 7, "of": VARIANTS["RLOO"].digest}
    monkeypatch.setattr(catalogue, "KEPT", tmp_path / "kept.json")
    catalogue.KEPT.write_text(json.dumps({"RLOO": row}))
    assert "| [RLOO](#rloo) | 1 new line | 50 | 50 | 50 | 50 | 7 |" in catalogue.with_table(PAGE)
    edited = replace(VARIANTS["RLOO"], diffs=("another",))
    assert catalogue.current([edited]) == {} and catalogue.current([VARIANTS["RLOO"]]) == {"RLOO": row}


# --- advantages and weights -----------------------------------------------------------------------------------


@pytest.fixture
def group(rollout, arithmetic_problem):
    """group("solve", [1, 0], [3, 5]) -> a group with these rewards and lengths; the fields are of all responses."""

    def build(kind: str, rewards: list[float], lengths: list[int] | None = None, **fields):
        problem = arithmetic_problem(kind=kind)
        lengths = lengths or [3] * len(rewards)
        return [rollout(problem=problem, reward=r, response_ids=[9] * k, logprobs=[-1.0] * k, **fields)
                for r, k in zip(rewards, lengths)]

    return build


def test_grpo_by_hand(group):
    """Two of four right: mean 1/2, deviation 1/2; every response weighs 1/4, whatever its length."""
    (row,) = rows_of_groups([group("solve", [1, 1, 0, 0], [2, 4, 5, 10])], config_of("GRPO"))
    assert row.advantages == pytest.approx([1, 1, -1, -1], abs=1e-5)
    assert [w * len(r) for w, r in zip(row.weights, row.responses)] == pytest.approx([1 / 4] * 4)


def test_dr_grpo_by_hand(group):
    """No deviation, and a token weighs 1 / (responses x max_new_tokens), whatever the lengths; no KL."""
    config = config_of("Dr. GRPO", "max_new_tokens=50")
    (row,) = rows_of_groups([group("solve", [1, 0, 0, 0], [2, 4, 5, 10])], config)
    assert row.advantages == pytest.approx([0.75, -0.25, -0.25, -0.25])
    assert row.weights == pytest.approx([1 / 200] * 4) and row.beta == 0


def test_reinforce_compares_with_the_mean_of_the_kind(patched, group):
    """Solving: 3 of 4 right, so 1/4 and -3/4, also where a whole group is right; judging has a mean of its own."""
    loss = patched("REINFORCE with a baseline", "spark_lib/loss.py")
    groups = [group("solve", [1, 1]), group("solve", [1, 0]), group("pointwise", [0, 0]), group("pointwise", [0, 1])]
    rows = loss.rows_of_groups(groups, config_of("REINFORCE with a baseline"))
    assert [row.advantages for row in rows] == [[0.25, 0.25], [0.25, -0.75], [-0.25, -0.25], [-0.25, 0.75]]
    assert loss.rows_of_groups([group("solve", [1, 1])] * 2, Config()) == []  # nothing is above the mean


def test_rloo_leaves_one_out(patched):
    loss = patched("RLOO", "spark_lib/loss.py")
    rewards = np.random.default_rng(0).random((5, 8))
    others = (rewards.sum(1, keepdims=True) - rewards) / 7
    assert_close(loss.group_advantages(torch.tensor(rewards)), torch.tensor(rewards - others), atol=1e-12, rtol=1e-12)
    assert not torch.allclose(group_advantages(torch.tensor(rewards)), torch.tensor(rewards - others))


def test_grpo_verif_weighs_judging(group):
    config = config_of("GRPO-Verif")
    rows = rows_of_groups([group("solve", [1, 0]), group("pointwise", [1, 0])], config)
    assert rows[1].weights[0] / rows[0].weights[0] == pytest.approx(0.2)
    assert config.recycle.kinds == ["pointwise"] and config.recycle.view == "trace"


def test_dapo_masks_what_was_cut_off(patched, group):
    """The response that was cut off has no weight, but is in the baseline: 1 of 3 right, not 1 of 2."""
    loss = patched("DAPO", "spark_lib/loss.py")
    one = group("solve", [1, 0, 0], [2, 3, 5])
    one[2].finished = False
    (row,) = loss.rows_of_groups([one], config_of("DAPO"))
    assert row.weights == [1 / 10, 1 / 10, 0]  # a token mean over all 10 tokens
    assert row.advantages == pytest.approx([math.sqrt(2), -math.sqrt(0.5), -math.sqrt(0.5)], abs=1e-5)
    for response in one:
        response.finished = False
    assert loss.rows_of_groups([one], Config()) == []


# --- ratios ---------------------------------------------------------------------------------------------------

LENGTHS, ADVANTAGES = [3, 1, 5], [1.0, -2.0, 0.5]


@pytest.fixture
def batch():
    """Three responses of different length, each response weighing 1/3 (loss=grpo), beta 0, in float64."""
    weights = token_weights(LENGTHS, "grpo", 10)
    packed = pack([Row([5, 6], [[7] * n for n in LENGTHS], ADVANTAGES, weights, 0.0)])
    packed.advantages = packed.advantages.double()
    packed.weights = torch.tensor(weights, dtype=torch.float64)[:, None]
    return packed


@pytest.fixture
def logprobs():
    """(now, old), (3, 5): log-ratios up to 0.4, with something in the padding that no loss may read."""
    generator = torch.Generator().manual_seed(0)
    now = -2 + 0.5 * torch.randn(3, 5, generator=generator, dtype=torch.float64)
    return now.requires_grad_(), now.detach() + 0.4 * torch.rand(3, 5, generator=generator, dtype=torch.float64) - 0.2


def derivative(loss, now: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    """Central differences of the scalar loss(now), number by number."""
    found = torch.zeros_like(now)
    for i in range(now.numel()):
        moved = [now.detach().clone() for _ in "+-"]
        moved[0].view(-1)[i] += step
        moved[1].view(-1)[i] -= step
        found.view(-1)[i] = (loss(moved[0]) - loss(moved[1])) / (2 * step)
    return found


@pytest.mark.parametrize("ratio, clipped", [(1.25, 1.25), (1.5, 1.28), (0.9, 0.9), (0.5, 0.5)])
def test_dapo_clips_higher(patched, ratio, clipped):
    """A likelier token may grow to 1.28, not 1.2; with A < 0 the floor stays at 0.8."""
    loss = patched("DAPO", "spark_lib/loss.py")
    now = torch.tensor([[-1.0]], dtype=torch.float64)
    for advantage, expected in ((1.0, clipped), (-1.0, max(ratio, 0.8))):
        one = pack([Row([5], [[7]], [advantage], [1.0], 0.0)])
        found, _ = loss.joint_loss(now, now - math.log(ratio), None, one, config_of("DAPO").clip)
        assert found.item() == pytest.approx(-advantage * expected, abs=1e-6)


@pytest.mark.parametrize("clip", [4e-4, 0.05, 10.0])
def test_gspo_by_the_formula(patched, batch, logprobs, clip):
    """Value against NumPy, gradient against central differences: it goes through the whole response's ratio."""
    loss = patched("GSPO", "spark_lib/loss.py")
    now, old = logprobs

    def formula(now: torch.Tensor) -> float:
        total = 0.0
        for i, (length, advantage) in enumerate(zip(LENGTHS, ADVANTAGES)):
            s = math.exp((now - old)[i, :length].sum().item() / length)
            total -= min(s * advantage, min(max(s, 1 - clip), 1 + clip) * advantage) / 3
        return total

    found, metrics = loss.joint_loss(now, old, None, batch, clip)
    found.backward()
    assert found.item() == pytest.approx(formula(now), abs=1e-9)
    assert_close(now.grad, derivative(formula, now), atol=1e-8, rtol=1e-6)
    if clip == 10:
        assert metrics["clipped"] == 0
    config = config_of("GSPO")
    assert (config.loss, config.clip, config.beta) == ("grpo", 4e-4, 0)


def test_cispo_clips_the_weight_and_not_the_gradient(patched, batch, logprobs):
    """d loss / d log p = -weight * A * min(ratio, 1 + c) at every token; PPO's clip would make it 0 at a ratio of 3."""
    loss = patched("CISPO", "spark_lib/loss.py")
    now, old = logprobs
    old = old.clone()
    old[0, 0] = now[0, 0].item() - math.log(3)  # A = 1: far above the clip
    old[1, 0] = now[1, 0].item() - math.log(0.1)  # A = -2: no lower bound
    loss.joint_loss(now, old, None, batch, 0.2)[0].backward()
    ratio = np.minimum(np.exp((now.detach() - old).numpy()), 1.2)
    expected = -batch.weights.numpy() * batch.advantages.numpy() * ratio * batch.valid.numpy()
    assert_close(now.grad, torch.tensor(expected), atol=1e-12, rtol=1e-9)
    assert now.grad[0, 0].item() == pytest.approx(-1.2 / 9) and now.grad[1, 0].item() == pytest.approx(0.2 / 3)


def test_laser_by_the_formula(patched, group):
    """A row for every answer, also of a group without variance: (0.1 log(p / p_ref) - r)^2 / responses x 0.1."""
    loss = patched("LaSeR", "spark_lib/loss.py")
    groups = [group("solve", [1, 1], [2, 3]), group("solve", [1, 0], [2, 3])]
    rows = loss.rows_of_groups(groups, config_of("LaSeR"))
    extra = [row for row in rows if row.responses == [[loss.SELF_REWARD]]]
    assert [row.advantages for row in extra] == [[1], [1], [1], [0]] and len(rows) == 5
    assert extra[1].prompt == [5, 6, 9, 9, 9] and all(row.weights == [0.1 / 4] for row in extra)
    now = torch.tensor([[-15.0], [-12.0], [-20.0], [-11.0]], dtype=torch.float64, requires_grad=True)
    found, _ = loss.joint_loss(now, now.detach(), torch.full_like(now, -20), pack(extra), 0.2)
    found.backward()
    scores = [0.5, 0.8, 0.0, 0.9]
    by_hand = sum(0.025 * (score - r) ** 2 for score, r in zip(scores, [1, 1, 1, 0]))
    assert found.item() == pytest.approx(by_hand, abs=1e-9)
    expected = [[0.025 * 2 * (score - r) * 0.1] for score, r in zip(scores, [1, 1, 1, 0])]
    assert_close(now.grad, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-6)


def test_laser_leaves_other_tokens_alone(patched, group):
    loss = patched("LaSeR", "spark_lib/loss.py")
    (row,) = rows_of_groups([group("pointwise", [1, 0])], Config())
    same = loss.rows_of_groups([group("pointwise", [1, 0])], Config())
    assert same[0].responses == row.responses and same[0].weights == row.weights and len(same) == 1
    now = torch.full((2, 3), -1.0)
    assert loss.joint_loss(now, now, now - 0.5, pack([row]), 0.2)[0].item() == pytest.approx(
        0.001 * (math.exp(-0.5) + 0.5 - 1), rel=1e-4)  # the advantages cancel, KL is left


# --- labels and test time -------------------------------------------------------------------------------------


def test_ttrl_and_coverrl_label_by_votes(rollout, rng):
    """Two say 7, which is wrong, one says 102: the votes call 7 right, the judge leaves such a group out."""
    groups = [[rollout(answer, reward=float(answer == "102")) for answer in ("7", "102", "7")]]
    kept, out = relabel(groups, config_of("TTRL").reward, None, "answer", None)
    assert [r.reward for r in kept[0]] == [1, 0, 1] and not out
    assert not config_of("TTRL").recycle.kinds
    for believed, expected in ((0.4, (0, 1)), (0.6, (1, 0))):
        kept, out = relabel(groups, config_of("CoVerRL").reward, lambda problems, p=believed: [p] * len(problems),
                            "answer", rng)
        assert (len(kept), len(out)) == expected


def test_v1_makes_pairs_only_and_fights_duels():
    assert config_of("V1").recycle.kinds == ["pairwise"]
    ours = Candidate(0, 0.9, False, 10, 5)
    theirs = Candidate(1, 0.1, True, 10, 5, beats={0: (True, 7)})
    assert knockout([ours, theirs]) == (theirs, 7)  # by the duel, although the judge of one trusts it less


# --- the loop, with a model that is none ----------------------------------------------------------------------


class Stub:
    """Spark and Run in one. `answer` makes the groups of a roll; asked and updates hold what the loop did."""

    def __init__(self, config, answer, steps: int = 1):
        self.config, self.answer, self.roll, self.done = config, answer, self, 0
        self.aside, self.asked, self.updates, self.count = [], [], [], steps

    def __call__(self, problems, n, stream, **_):
        self.asked.append((stream, problems))
        return [self.answer(problem, n, stream) for problem in problems]

    def update(self, groups, demonstrations, step):
        weight = self.config.weights.solve
        self.updates.append((groups, demonstrations, weight, list(self.config.recycle.kinds)))
        return {}

    def steps(self):
        for step in range(self.count):
            self.done = step
            yield step

    @property
    def progress(self):
        return self.done / self.count

    def set_learning_rate(self, rate): ...

    def log(self, groups, learned): ...

    def save(self): ...


def data_of(arithmetic_problem, count: int = 40) -> list[Problem]:
    return [arithmetic_problem((10 + i, 20, 30)) for i in range(count)]


def test_dapo_samples_until_groups_differ(patched, arithmetic_problem, rollout):
    """All right at first: the missing questions are replaced, other ones, and at most three times."""
    train = patched("DAPO", "train.py").train

    def answer(problem, n, stream):
        mixed = stream[-1] == "solve again 2"
        return [rollout(problem=problem, reward=float(i == 0 or not mixed)) for i in range(n)]

    config = config_of("DAPO", "problems_per_step=4", "recycle.kinds=[]")
    stub = Stub(config, answer)
    train(stub, data_of(arithmetic_problem), stub)
    solved = [len(problems) for stream, problems in stub.asked if stream[-1].startswith("solve")]
    assert solved == [4, 4, 4, 0]
    asked = [problem for stream, problems in stub.asked for problem in problems if stream[-1].startswith("solve")]
    assert {p.prompt for p in asked[:4]} != {p.prompt for p in asked[4:8]}
    assert len(stub.updates[0][0]) == 12 and len(rows_of_groups(stub.updates[0][0], config)) == 4


def test_self_verify_judges_first(patched, arithmetic_problem, rollout):
    """A third of the run learns verdicts only, the rest answers only."""
    train = patched("Learning to Self-Verify", "train.py").train

    def answer(problem, n, stream):
        return [rollout(problem.answer if i else "7", problem, reward=float(i > 0)) for i in range(n)]

    stub = Stub(config_of("Learning to Self-Verify", "problems_per_step=4"), answer, steps=6)
    train(stub, data_of(arithmetic_problem), stub)
    assert [(weight, kinds) for _, _, weight, kinds in stub.updates] == [(0, ["pointwise"])] * 2 + [(1, [])] * 4
    kinds = [{group[0].problem.kind for group in groups} for groups, *_ in stub.updates]
    assert kinds == [{"solve", "pointwise"}] * 2 + [{"solve"}] * 4


def test_pag_revises_what_it_doubts(patched, arithmetic_problem, rollout):
    """Only candidates whose first verdict is No are reflected on, right ones or wrong ones."""
    train = patched("PAG", "train.py").train

    def answer(problem, n, stream):
        if problem.kind == "pointwise":  # doubts what is wrong, and what is right half of the time
            said = "No" if problem.answer == "No" or len(problem.prompt) % 2 else "Yes"
            return [rollout(said, problem, reward=float(said == problem.answer)) for _ in range(n)]
        return [rollout(problem.answer if i else "7", problem, reward=float(i > 0)) for i in range(n)]

    stub = Stub(config_of("PAG", "problems_per_step=8"), answer)
    train(stub, data_of(arithmetic_problem), stub)
    (groups, *_), = stub.updates
    doubted = [g[0].problem.meta["candidates"] for g in groups
               if g[0].problem.kind == "pointwise" and "{No}" in g[0].text]
    revised = [g[0].problem for g in groups if g[0].problem.kind == "reflect"]
    assert doubted and [p.meta["candidates"] for p in revised] == doubted
    assert all(p.answer == shown[0].problem.answer for p, shown in zip(revised, doubted))
    assert stub.asked[-1][0] == (0, "revise")


def test_stv_imitates_itself_shown_the_answer(patched, arithmetic_problem, rollout):
    """The reference is in the prompt that is sampled, never in the one that is learned; wrong verdicts are left out."""
    train = patched("STV", "train.py").train

    def answer(problem, n, stream):
        if stream[-1] == "judge":
            assert problem.prompt.startswith(f"The right answer is {problem.meta['candidates'][0].problem.answer}.\n")
            right = problem.answer == "Yes"
            return [replace(rollout(problem=problem, reward=float(right)), text="said with the answer in sight")]
        return [rollout(problem.answer if i else "7", problem, reward=float(i > 0)) for i in range(n)]

    stub = Stub(config_of("STV", "problems_per_step=8"), answer)
    train(stub, data_of(arithmetic_problem), stub)
    (_, demonstrations, *_), = stub.updates
    assert {p.answer for p in demonstrations} == {"Yes"}
    assert {p.meta["demonstration"] for p in demonstrations} == {"said with the answer in sight"}
    assert not any("The right answer is" in p.prompt for p in demonstrations)
    assert len(stub.aside) == stub.config.judge_problems  # counted as sampled, and in the record


def test_about_is_what_pag_calls(rollout, rng):
    """The diff's call, so that a new parameter of recycle.about is noticed here."""
    shown = [rollout("7")]
    assert about("reflect", shown, shown[0].problem.answer, "answer", rng).answer == "102"


# --- two steps of each ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_two_steps(name, tmp_path):
    """The command and the diffs as printed, on the starter: it learns, and the record shows what changed."""
    variant = VARIANTS[name]
    catalogue.copy_of_the_kit(variant, tmp_path)
    words = ["max_steps=2", "problems_per_step=6", "eval.limit=0", "run_name=a", "seed=31"]
    words += ["group_size=2"] * (name == "DAPO")  # of which many are flat, and sampled anew
    done = subprocess.run([sys.executable, "train.py", *variant.keys, *words], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert_shows(name, tmp_path / "runs" / "a")


def assert_shows(name: str, run: Path) -> None:
    """What the metrics and the record of the variant's two steps say."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(row["update/rows"] > 0 and row["update/grad_norm"] > 0 for row in rows)
    groups = [group for step in read(str(run)) for group in step["groups"]]
    kinds = {group["kind"] for group in groups}
    if name == "DAPO":
        assert len([group for group in groups if group["kind"] == "solve"]) > 12
    if name in ("TTRL", "LaSeR"):
        assert kinds == {"solve"}
    if name == "Learning to Self-Verify":
        assert rows[0]["pointwise/tokens"] > 0 and "pointwise/tokens" not in rows[1]
    if name == "REINFORCE with a baseline":
        assert any(a["advantage"] for g in groups for a in g["responses"] if len({r["reward"] for r in g["responses"]})
                   == 1)
    if name.startswith("V1"):
        assert kinds == {"solve", "pairwise"}
