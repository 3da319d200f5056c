"""Stopping, disks and places: each works or says one line, and the last finished step can be gone on from."""

import contextlib
import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from same_run import differences

import evaluate
import train
from spark_lib import stopping
from spark_lib.config import ConfigError
from spark_lib.evaluation import skills
from spark_lib.model import checkpoints
from spark_lib.resuming import MAY_CHANGE
from spark_lib.run import Run, new_folder

REPO = Path(__file__).parents[1]
SMALL = ["max_steps=3", "save_every=2", "problems_per_step=2", "group_size=4", "judge_group_size=2", "judge_share=0.4",
         "max_new_tokens=64", "lr_schedule=constant", "eval.limit=2", "eval.rounds=1", "run_name=a"]
CODES = {signal.SIGINT: 0, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(scope="module", autouse=True)
def no_figures():
    """They take half of the time of such small runs, and no test here is about them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spark_lib.report.figure", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(folder):
        train.main(SMALL)
    return folder / "runs" / "a"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def signal_at(patch, target, name: str, call: int = 1, signum: int = signal.SIGTERM) -> None:
    """The process gets the signal in the call number `call` of target.name, before it does anything."""
    function, calls = getattr(target, name), iter(range(1, 10**6))

    def signalled(*args, **kwargs):
        if next(calls) == call:
            os.kill(os.getpid(), signum)
        return function(*args, **kwargs)

    patch.setattr(target, name, signalled)


def stopped(words: list[str]) -> int:
    """The exit code of train.py with these words."""
    try:
        train.main(words)
    except SystemExit as end:
        return end.code
    return 0


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


@contextlib.contextmanager
def largest_file(size: int):
    """Within this block no file grows beyond so many bytes: as on a full disk, a write fails in its middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("size, what", [
    pytest.param(300_000, "checkpoint-2", id="adapter", marks=pytest.mark.slow),
    pytest.param(1_000_000, "checkpoint-2", id="optimiser", marks=pytest.mark.slow),
    pytest.param(2_500, "File too large", id="metrics"), pytest.param(600, "File too large", id="config"),
])
def test_a_full_disk_is_one_line_and_costs_no_checkpoint(whole, place, capsys, size, what):
    """Torch and safetensors say RuntimeError and SafetensorError; the last one for both is a line of ours."""
    with largest_file(size), pytest.raises((ConfigError, OSError)) as error:
        train.main(SMALL)
    message = str(error.value)
    assert "\n" not in message and (what in message or "judge_set" in message)
    run = place / "runs" / "a"
    assert not checkpoints.checkpoints(run) and not list(run.glob("checkpoint-*.partial"))
    if size > 600:
        assert "to go on from the start once that is mended: python train.py resume=runs/a" in capsys.readouterr().out
        train.main(["resume=runs/a"])
        assert not differences(run, whole)


@pytest.mark.slow
def test_a_disk_that_fills_up_later_leaves_the_last_checkpoint(whole, place, monkeypatch, capsys):
    save = checkpoints.torch.save
    with monkeypatch.context() as patch:
        def fails(content, path):
            if "checkpoint-3" in str(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            save(content, path)

        patch.setattr(checkpoints.torch, "save", fails)
        with pytest.raises(ConfigError, match="checkpoint-3: it cannot be written.*No space left.*make space"):
            train.main(SMALL)
    run = place / "runs" / "a"
    assert "to go on from checkpoint-2 once that is mended" in capsys.readouterr().out
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-2"]
    train.main(["resume=runs/a"])
    assert not differences(run, whole)


@pytest.mark.slow
def test_predictions_survive_a_full_disk(whole, place):
    shutil.copytree(whole.parent, place / "runs")
    words = ["runs/a", "limit=4", "samples=2", "rounds=1", "batch=4"]
    evaluate.main([*words, "name=whole"])
    size = (place / "runs/a/eval-whole/predictions.jsonl").stat().st_size
    with largest_file(size // 2), pytest.raises(OSError, match="File too large"):
        evaluate.main([*words, "name=b"])
    evaluate.main([*words, "name=b"])
    for name in ("predictions.jsonl", "results.json"):
        assert (place / "runs/a/eval-b" / name).read_bytes() == (place / "runs/a/eval-whole" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a mount namespace")
def test_a_real_disk_that_is_full(whole, tmp_path):
    """A small tmpfs, seen by this one shell: the run ends with one line, and goes on after space was made."""
    words = " ".join(SMALL)
    train_py = f"{sys.executable} {REPO}/train.py"
    script = (f"mkdir runs && mount -t tmpfs -o size=3m tmpfs runs || exit 77\n{train_py} {words}\n"
              f"echo code $?; ls runs/a; mount -o remount,size=99m runs; {train_py} resume=runs/a && cp -r runs/a kept")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, env=environment(), capture_output=True,
                          text=True, timeout=300)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mount namespace is allowed here")
    assert "code 1" in done.stdout and "Traceback" not in done.stderr
    assert "error: " in done.stderr and "No space left" in done.stderr + done.stdout or "MB of the disk" in done.stderr
    assert "checkpoint-2" in done.stdout
    assert not differences(tmp_path / "kept", whole)


def test_a_runs_folder_that_cannot_be_written_is_one_line(place):
    """/sys takes no folder, not even from root."""
    Path("runs").symlink_to("/sys")
    with pytest.raises(ConfigError, match="cannot make the run's folder runs/a: "):
        train.main([*SMALL, "eval.limit=0"])


def test_runs_that_is_a_file_is_one_line(place):
    Path("runs").write_text("")
    with pytest.raises(ConfigError, match="runs: it is a file"):
        train.main([*SMALL, "eval.limit=0"])


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_folder_can_have_is_one_line(place, name):
    with pytest.raises(ConfigError, match="cannot make the run's folder"):
        new_folder(name)


def test_runs_of_the_same_second_get_folders_of_their_own(place):
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(new_folder, ["a"] * 50))
    assert len(set(folders)) == 50 and {path.name for path in Path("runs").iterdir()} == {f.name for f in folders}


def test_evaluations_of_the_same_second_and_a_stop_before_their_settings(place):
    """A kill between the folder and its settings.json moved the evaluation to a folder of another name."""
    assert evaluate.folder_of("starter", "x", {"n": 1}) == Path("runs/eval-starter-x")
    assert evaluate.folder_of("starter", "x", {"n": 2}) == Path("runs/eval-starter-x-2")
    Path("runs/eval-starter-x-3").mkdir()
    Path("runs/eval-starter-x-3/settings.json.partial").write_text("{")
    assert evaluate.folder_of("starter", "x", {"n": 3}) == Path("runs/eval-starter-x-3")
    assert evaluate.folder_of("starter", "x", {"n": 1}) == Path("runs/eval-starter-x")


@pytest.mark.slow
def test_a_path_with_spaces_can_be_pasted(whole, place, monkeypatch, capsys):
    """Started from one folder, gone on with from another, by the line that was printed."""
    there = place / "my runs' place"
    there.mkdir()
    monkeypatch.chdir(there)
    with monkeypatch.context() as patch:
        signal_at(patch, train, "problems_of_step", 1, signal.SIGINT)
        assert stopped([*SMALL, "run_name=two words"]) == 0
    hint = capsys.readouterr().out.split("go on with: ")[1].strip()
    assert hint == "python train.py 'resume=runs/two words'"
    monkeypatch.chdir(place)
    train.main([f"resume={there}/runs/two words"])
    names = differences(there / "runs" / "two words", whole)
    assert set(names) <= {"config.yaml", *(n for n in names if n.startswith(("checkpoint-1/", "checkpoint-2/")))}


def environment(**more: str) -> dict:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | more


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


@pytest.mark.parametrize("words, named", [
    (["seed=1"], ["seed (from 0 to 1)"]), (["group_size=2", "data=shapes"], ["group_size", "data"]),
    (["lora=null"], ["lora"]), (["eval.limit=3"], ["eval.limit"]), (["recycle.view=trace"], ["recycle.view"]),
    (["model=starter_vl"], ["model"]), (["problems_per_step=3"], ["problems_per_step"]),
])
def test_what_would_make_it_another_run_may_not_change(whole, place, words, named):
    """A resumed run of another seed or model wrote its steps behind those of the first, in silence."""
    shutil.copytree(whole.parent, "runs")
    with pytest.raises(ConfigError) as error:
        train.main(["resume=runs/a", "max_steps=4", *words])
    message = str(error.value)
    assert all(name in message for name in named) and all(name in message for name in MAY_CHANGE)
    assert not differences(Path("runs/a"), whole)


def test_a_finished_run_says_so_and_goes_on_with_more_steps(whole, place, capsys):
    """Resumed as it is, it evaluated again and changed its summary; with more steps it is the longer run."""
    shutil.copytree(whole.parent, "runs")
    kept = {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    train.main(["resume=runs/a"])
    assert "at its end after 3 steps; a larger max_steps" in capsys.readouterr().out
    assert kept == {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    train.main(["resume=runs/a", "max_steps=4", "save_every=4"])
    train.main([*SMALL, "max_steps=4", "run_name=longer"])
    different = {name.split("/")[0] for name in differences(Path("runs/a"), Path("runs/longer"))}
    assert different <= {"config.yaml", "changes.jsonl", "checkpoint-2", "checkpoint-3"}
    change, = map(json.loads, Path("runs/a/changes.jsonl").read_text().splitlines())
    assert change == {"step": 3, "max_steps": ["3", "4"], "save_every": ["2", "4"]}
    assert "max_steps: 4" in Path("runs/a/config.yaml").read_text()
    capsys.readouterr()
    train.main(["resume=runs/a"])  # the change holds
    assert "at its end after 4 steps" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_goes_on_is_not_finished_any_more(whole, place, monkeypatch):
    shutil.copytree(whole.parent, "runs")
    with monkeypatch.context() as patch:
        signal_at(patch, train, "problems_of_step", 1)
        assert stopped(["resume=runs/a", "max_steps=6"]) == 143
    assert not Path("runs/a/summary.json").exists()


def test_leftovers_of_kills_are_no_checkpoints(whole, place):
    """A kill in the last checkpoint after Ctrl-C left checkpoint-1.partial, and the report at the end read its name."""
    shutil.copytree(whole.parent, "runs")
    for name in ("checkpoint-1.partial", "checkpoint-old", "metrics.jsonl.partial"):
        Path("runs/a", name).mkdir()
    train.main(["resume=runs/a", "max_steps=4"])
    assert not list(Path("runs/a").glob("*.partial")) and Path("runs/a/checkpoint-old").is_dir()


def test_a_damaged_record_is_one_line(whole, place):
    shutil.copytree(whole.parent, "runs")
    for name in ("metrics.jsonl", "judge_set.json", "before.json"):
        kept = Path("runs/a", name).read_bytes()
        Path("runs/a", name).write_bytes(b"{half\n" + kept)
        with pytest.raises(ConfigError, match=name):
            train.main(["resume=runs/a", "max_steps=4"])
        Path("runs/a", name).write_bytes(kept)


def test_a_run_that_is_at_work_is_not_gone_on_with(whole, place, capsys):
    """Two studies, or an impatient user: both would write the same files in turn. A dead process holds nothing."""
    shutil.copytree(whole.parent, "runs")
    held = "import sys; from pathlib import Path; from spark_lib.resuming import claim; lock = claim(Path('runs/a')); "
    words = [sys.executable, "-c", held + "print('mine', flush=True); sys.stdin.read()"]
    other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"PYTHONPATH": str(REPO)})
    assert other.stdout.readline() == "mine\n"
    before = {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="another process is at work on this run"):
        train.main(["resume=runs/a", "max_steps=4"])
    assert before == {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    other.kill()
    other.wait()
    train.main(["resume=runs/a", "max_steps=4"])
    assert Path("runs/a/checkpoint-4").is_dir()
    train.main(["resume=runs/a", "max_steps=5"])  # nor does one that ended
