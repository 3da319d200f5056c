"""Signals and streams: the run ends as it was asked to, and the last finished step can be gone on from."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from same_run import differences
from stops import REPO, SMALL, environment, signal_at, stopped

import evaluate
import train
from spark_lib import stopping
from spark_lib.evaluation import skills
from spark_lib.model import checkpoints
from spark_lib.run import Run

CODES = {signal.SIGINT: 0, signal.SIGTERM: 143, signal.SIGHUP: 129}
pytestmark = pytest.mark.usefixtures("no_figures")
WHERE = {
    "in a step's sampling": (train, "problems_of_step", 2, 2),
    "in a step's update": (train, "joint_loss", 1, 1),
    "while a step is logged": (Run, "append", 1, 1),
    "in a checkpoint": (checkpoints, "flush", 3, 2),
    "before the first step, in the judge set": (skills, "recycle_kind", 2, 0),
    "before the first step, in the evaluation": (skills, "judge_and_reflect", 1, 0),
    "in the evaluation at the end": (skills, "judge_and_reflect", 2, 3),
    "in the report at the end": (Run, "finish", 1, 3),
}
DEFAULT = ("in a step's update", "before the first step, in the evaluation")


@pytest.mark.parametrize("where", [
    where if where in DEFAULT else pytest.param(where, marks=pytest.mark.slow) for where in WHERE
])
def test_sigterm_leaves_a_checkpoint_and_the_run_goes_on(whole, place, monkeypatch, capsys, where):
    """SLURM and docker send SIGTERM, and the steps since the last checkpoint were lost."""
    target, name, call, step = WHERE[where]
    with monkeypatch.context() as patch:
        signal_at(patch, target, name, call)
        assert stopped(SMALL) == 143
    run = place / "runs" / "a"
    out = capsys.readouterr().out
    assert f"stopped after {step} steps; go on with: python train.py resume=runs/a" in out
    assert (run / f"checkpoint-{step}").is_dir() and not (run / "summary.json").exists()
    assert not list(run.glob("*.partial"))
    train.main(["resume=runs/a"])
    assert same_but_for_checkpoints(run, whole)


def test_names_in_a_checkpoint_are_in_order(whole):
    """peft writes a set as Python has it: another order in each process, so that no two checkpoints were the same."""
    names = json.loads((whole / "checkpoint-3" / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert len(names) > 3 and names == sorted(names)


def same_but_for_checkpoints(run: Path, whole: Path) -> bool:
    """A stop may leave an older checkpoint than the undisturbed run keeps; the last ones are the same."""
    return {name.split("/")[0] for name in differences(run, whole)} <= {"checkpoint-0", "checkpoint-1", "checkpoint-2"}


@pytest.mark.slow
@pytest.mark.parametrize("signum", CODES, ids=lambda s: s.name)
def test_each_signal_has_its_exit_code(place, monkeypatch, signum):
    signal_at(monkeypatch, train, "problems_of_step", 1, signum)
    previous = signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    try:  # as in a terminal: these tests may themselves be run under nohup, which has SIGHUP ignored
        assert stopped([*SMALL, "eval.limit=0"]) == CODES[signum]
    finally:
        signal.signal(signum, previous)
    assert (place / "runs" / "a" / "checkpoint-1").is_dir()


def test_a_second_signal_ends_the_run_at_once(whole, place, monkeypatch):
    """Whoever asks twice does not want to wait; what was whole stays whole."""
    before = {s: signal.getsignal(s) for s in CODES}
    with monkeypatch.context() as patch:
        signal_at(patch, train, "problems_of_step", 3)
        signal_at(patch, train, "joint_loss", 3)
        with pytest.raises(stopping.Terminated):
            train.main(SMALL)
    assert before == {s: signal.getsignal(s) for s in CODES}  # the caller's own handlers are back
    run = place / "runs" / "a"
    assert [path.name for path in checkpoints.checkpoints(run)] == ["checkpoint-2"]
    train.main(["resume=runs/a"])
    assert not differences(run, whole)


@pytest.mark.slow
def test_a_second_signal_in_the_last_checkpoint_leaves_none_half_written(whole, place, monkeypatch):
    with monkeypatch.context() as patch:
        signal_at(patch, train, "problems_of_step", 1)
        signal_at(patch, checkpoints, "flush", 4)
        with pytest.raises(stopping.Terminated):
            train.main(SMALL)
    assert not checkpoints.checkpoints(place / "runs" / "a")
    train.main(["resume=runs/a"])
    assert not differences(place / "runs" / "a", whole)


@pytest.mark.slow
@pytest.mark.parametrize("target, name", [(train.Spark, "update"), (train.Spark, "start")])
def test_a_stop_in_the_warm_up_leaves_no_checkpoint_of_its_middle(place, monkeypatch, capsys, target, name):
    """A checkpoint of a half warmed adapter would be what the resumed run warms up from."""
    examples = [{"question": f"{i} + 1 = ?", "answer": f"{i} + 1 = {i + 1}. #### {i + 1}"} for i in range(20)]
    Path("examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    words = [*SMALL, "warmup.data=examples.jsonl", "warmup.steps=2", "warmup.batch=4", "eval.limit=0", "max_steps=1"]
    with monkeypatch.context() as patch:
        signal_at(patch, target, name, 2)
        assert stopped(words) == 143
    run = place / "runs" / "a"
    assert not checkpoints.checkpoints(run) and "resume=runs/a" in capsys.readouterr().out
    train.main(["resume=runs/a"])
    train.main([*words, "run_name=b"])
    assert not [name for name in differences(run, place / "runs" / "b") if name != "config.yaml"
                and "adapter_config" not in name and "README" not in name]  # these name the folder of the base


@pytest.mark.slow
def test_random_kills_cost_no_byte(tmp_path):
    """A few of those of docs/reliability.md: at random moments and file operations of a run and its evaluation."""
    words = [sys.executable, str(REPO / "tests" / "perf" / "kills.py"), "--kills", "4", "--steps", "6", "--seed", "3"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=550)
    assert done.returncode == 0 and "4  kills, every course ended in the same bytes" in done.stdout, done.stderr


TWO = """
import os, signal, sys
sys.path.insert(0, {repo!r})
import train
loss_of, log, rank = train.joint_loss, train.Run.log, int(os.environ["RANK"])
now = [0]
def broken(*args):
    loss, metrics = loss_of(*args)
    return loss * (float("nan") if now[0] == 1 and rank == 1 else 1.0), metrics
def logged(run, *args):
    log(run, *args)
    now[0] = run.done
    if run.done == {stop_after} and rank == 0:
        os.kill(os.getpid(), signal.SIGTERM)
train.joint_loss, train.Run.log = broken, logged
train.main(sys.argv[1:])
"""


def two(folder: Path, stop_after: int, *words: str) -> subprocess.CompletedProcess:
    (folder / "two.py").write_text(TWO.format(repo=str(REPO), stop_after=stop_after))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "two.py", *words]
    on_cpu = environment(ACCELERATE_USE_CPU="true")
    return subprocess.run(launch, cwd=folder, env=on_cpu, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
def test_two_processes_skip_and_stop_together(tmp_path):
    """NaN in one process's share, and SIGTERM to one process: what only one of them knew would hang the other."""
    words = ["problems_per_step=6", "group_size=4", "recycle.kinds=[]", "eval.limit=0", "max_steps=4", "run_name=a"]
    stopped_ = two(tmp_path, 3, *words)
    run = tmp_path / "runs" / "a"
    assert stopped_.returncode != 0 and "stopped after 3 steps" in stopped_.stdout, stopped_.stderr
    assert "exitcode  : 143" in stopped_.stderr
    assert [path.name for path in checkpoints.checkpoints(run)] == ["checkpoint-3"]
    done = two(tmp_path, -1, "resume=runs/a")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert [row["step"] for row in rows if "update/skipped" in row] == [1]


def test_nohup_keeps_its_meaning(monkeypatch):
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.on_signal(lambda *_: None):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.slow
def test_a_stopped_evaluation_goes_on(whole, place, monkeypatch):
    """evaluate.py keeps every response that it has; SIGTERM is 143 there too."""
    shutil.copytree(whole.parent, place / "runs")
    words = ["runs/a", "limit=4", "samples=2", "rounds=1", "batch=4"]
    evaluate.main([*words, "name=whole"])
    with monkeypatch.context() as patch:
        signal_at(patch, evaluate.Sampler, "__call__", 3)
        patch.setattr(sys, "argv", ["evaluate.py", *words, "name=b"])
        patch.setattr(stopping, "open_streams", lambda: None)
        with pytest.raises(SystemExit) as end:
            stopping.run_script(evaluate.main)
    assert end.value.code == 143
    evaluate.main([*words, "name=b"])
    for name in ("predictions.jsonl", "results.json", "settings.json"):
        assert (place / "runs/a/eval-b" / name).read_bytes() == (place / "runs/a/eval-whole" / name).read_bytes()


def test_a_closed_pipe_and_an_ascii_terminal(tmp_path):
    """`python train.py | head -1` ended in a BrokenPipeError without a checkpoint; LANG=C, in a UnicodeEncodeError."""
    words = [sys.executable, str(REPO / "train.py"), *SMALL, "max_steps=1"]
    ascii_only = environment(LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    process = subprocess.Popen(words, cwd=tmp_path, env=ascii_only, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(120) == 0 and "Traceback" not in errors, errors
    assert (tmp_path / "runs" / "a" / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "< /dev/null > /dev/full 2> /dev/full", "2>&1 | head -1"])
def test_without_a_terminal(whole, tmp_path, streams):
    """Streams that are closed, full or gone."""
    line = f"{sys.executable} {REPO}/train.py {' '.join(SMALL)} {streams}"
    words = ["setsid", "--wait", "bash", "-c", line]
    subprocess.run(words, cwd=tmp_path, env=environment(), timeout=300, stdin=subprocess.DEVNULL)
    assert not differences(tmp_path / "runs" / "a", whole)


def test_output_survives_what_its_stream_does_not():
    reading, writing = os.pipe()
    stream = stopping.Output(open(writing, "w", encoding="ascii"))
    assert stream.write("1 – 2\n") == 6
    stream.flush()
    assert os.read(reading, 99) == b"1 ? 2\n"
    os.close(reading)
    for _ in range(3):
        stream.write("nobody reads this\n")
        stream.flush()
    stream.close()
    stopping.Output(io.StringIO()).write("–")
