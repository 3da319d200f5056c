"""Disks and places: each works or says one line, and costs no step that was saved."""

import contextlib
import errno
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
from stops import REPO, SMALL, environment, signal_at, stopped

import evaluate
import train
from spark_lib.config import ConfigError
from spark_lib.model import checkpoints
from spark_lib.run import new_folder

pytestmark = pytest.mark.usefixtures("no_figures")


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
