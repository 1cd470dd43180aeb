"""Executing a graph: processes, logs, reuse, failures, signals, the lock. Real processes of a cheap stage."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import execute
from runner.__main__ import main
from runner.core import artifact
from runner.process import Process
from tests.echo import user_folder


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A hang-up is heard by what is started here, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder as the working directory."""
    monkeypatch.chdir(user_folder(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return tmp_path


def start(*words: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "runner", "+recipe=two", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition: object, seconds: float = 20) -> None:
    """Wait until a function answers true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def workers_of(run: Path) -> list[int]:
    """Process ids of the workers in a run's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "runner.worker" in words and any(str(run) in word or word.startswith("outputs/") for word in words):
                found.append(int(entry.name))
    return [pid for pid in found if alive(pid) and Path(f"/proc/{pid}/cwd").resolve() == run.parents[1].resolve()]


def test_run_writes_the_folder_and_reuses_it(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Both stages run in order; the same command does nothing more."""
    assert main(["+recipe=two"]) == 0
    printed = capfd.readouterr().out
    assert printed.index("first (echo)") < printed.index("hello some/model") < printed.index("second (echo)")
    run = folder / "outputs" / "two"
    assert {"config.yaml", ".hydra", "plan.json", "provenance.json", "first", "second"} <= set(os.listdir(run))
    made = artifact.read(run / "second")
    assert made is not None and made.kind == "model" and len(made.fingerprint) == 16
    assert "again " + str(run / "first") in (run / "second" / "log.txt").read_text()
    before = (run / "second" / "artifact.json").stat().st_mtime_ns
    assert main(["+recipe=two"]) == 0
    assert capfd.readouterr().out.count("reused") == 4  # a line and a row of the table for each stage
    assert (run / "second" / "artifact.json").stat().st_mtime_ns == before


def _stopped(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_stage_that_lost_what_it_made_makes_it_again(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was reused, and the stages after it found nothing."""
    assert main(["+recipe=two", "stages.first.inside=out"]) == 0
    first = folder / "outputs" / "two" / "first"
    shutil.rmtree(first / "out")
    assert main(["plan", "recipe=two", "stages.first.inside=out"]) == 0
    assert f"what it made, {first}/out, is gone" in " ".join(capfd.readouterr().out.split())
    with monkeypatch.context() as stopped:
        stopped.setattr(execute, "_run", _stopped)
        assert main(["+recipe=two", "stages.first.inside=out"]) == 130
    assert artifact.read(first) is None, "half of it would be taken for the whole"
    assert main(["+recipe=two", "stages.first.inside=out"]) == 0
    assert (first / "out" / "said.txt").is_file()


def test_work_that_is_being_replaced_is_not_complete(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of it, the recipe before must not find half of its work and take it for whole."""
    assert main(["+recipe=two"]) == 0
    first = folder / "outputs" / "two" / "first"
    (first / "a").mkdir()

    monkeypatch.setattr(shutil, "rmtree", _stopped)
    assert main(["+recipe=two", "stages.first.words=other", "on_change=replace"]) == 130
    assert first.is_dir() and artifact.read(first) is None


def test_work_in_a_folder_that_is_a_link_is_replaced(folder: Path) -> None:
    """It was a traceback."""
    assert main(["+recipe=two"]) == 0
    first, disk = folder / "outputs" / "two" / "first", folder / "disk"
    first.rename(disk)
    first.symlink_to(disk)
    assert main(["+recipe=two", "stages.first.words=other", "on_change=replace"]) == 0
    assert first.is_symlink() and (disk / "said.txt").read_text() == "other"


def test_a_stage_reruns_alone_from_its_folder(folder: Path) -> None:
    """`python -m runner.worker FOLDER` needs nothing but the folder."""
    assert main(["+recipe=two"]) == 0
    stage = folder / "outputs" / "two" / "first"
    (stage / "artifact.json").unlink()
    done = subprocess.run([sys.executable, "-m", "runner.worker", str(stage)], cwd="/", check=False)
    assert done.returncode == 0 and (stage / "artifact.json").is_file()


def test_the_first_failure_ends_the_run_with_its_last_lines(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 1, the stage's last lines, and the later stage never starts."""
    assert main(["+recipe=two", "stages.first.fail=oh no"]) == 1
    error = capfd.readouterr().err
    assert error.startswith("stages.first: failed (exit code 1).") and "ValueError: oh no" in error
    assert not (folder / "outputs" / "two" / "second").exists()


def test_a_users_mistake_found_by_the_worker_is_one_sentence(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 2 and nothing but the sentence."""
    assert main(["+recipe=two", "stages.first.fail=mistake"]) == 2
    assert capfd.readouterr().err == "rows.jsonl:3: is not JSON. Mend the line.\n"


def test_a_failure_that_has_a_sentence_is_told_by_it(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What the stage said before stands above, and in its log."""
    assert main(["+recipe=two", "stages.first.fail=sentence"]) == 1
    log = "outputs/two/first/log.txt"
    assert capfd.readouterr().err == f"stages.first: failed. the server went away. Its log: {log}\n"


def test_a_worker_that_vanishes_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A worker that ends without a word leaves no artifact and exit code 1."""
    assert main(["+recipe=two", "stages.first.fail=exit"]) == 1
    assert "failed (exit code 7)" in capfd.readouterr().err
    assert artifact.read(folder / "outputs" / "two" / "first") is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_stage_once_and_exits_130(folder: Path, number: signal.Signals) -> None:
    """The parent passes it on; the worker stops at its next good moment; nothing is left behind."""
    run = folder / "outputs" / "two"
    process = start("stages.first.ticks=400")
    wait_for(lambda: (run / "first" / "log.txt").is_file() and "hello" in (run / "first" / "log.txt").read_text())
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "first: stopped. The same command goes on" in output
    assert not workers_of(run) and not (run / "first" / "artifact.json").exists()


def test_ctrl_c_while_the_worker_still_imports_is_no_traceback() -> None:
    """Python's own answer to SIGINT was told, as it had no other yet."""
    with Process([sys.executable, "-c", "import time; print('imports', flush=True); time.sleep(60)"]) as process:
        said = []
        for line in process.lines(lambda told: None):
            said.append(line)
            os.kill(os.getpid(), signal.SIGINT)
    assert said == ["imports\n"] and process.code == -signal.SIGTERM and process.asked_to_stop


def test_a_hang_up_is_not_heard_under_nohup(folder: Path) -> None:
    """Who starts a run with nohup wants it to outlive the terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    process = start("stages.first.ticks=20")
    signal.signal(signal.SIGHUP, before)
    wait_for(lambda: workers_of(folder / "outputs" / "two"))
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_closed_terminal_stops_the_stage_as_ctrl_c_does(folder: Path) -> None:
    """The worker was killed in its middle, and what it had not saved was lost."""
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(sys.executable, ["-m", "runner", "+recipe=two", "stages.first.ticks=400"], timeout=20)
    child.expect("hello")
    child.ptyproc.fileobj.close()  # by its owner: the number may be another file's when that one closes it too
    run = folder / "outputs" / "two"
    wait_for(lambda: not workers_of(run))
    assert "first: stopped after" in (run / "first" / "log.txt").read_text()


def test_a_run_outlives_the_reader_of_its_output(folder: Path) -> None:
    """`| tee` is ended by the Ctrl-C that asks for a checkpoint: its next line killed the run, exit code 1."""
    run = folder / "outputs" / "two"
    process = start("stages.first.ticks=40")
    assert process.stdout is not None
    wait_for(lambda: workers_of(run))
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert artifact.read(run / "second") is not None


def test_a_killed_parent_leaves_no_worker(folder: Path) -> None:
    """kill -9 of the parent: the worker sees its pipe close and ends."""
    run = folder / "outputs" / "two"
    process = start("stages.first.ticks=400")
    wait_for(lambda: workers_of(run))
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not workers_of(run), 5)


def test_two_runs_in_one_folder(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The second is refused and names the first; once the first is killed the folder is free."""
    run = folder / "outputs" / "two"
    process = start("stages.first.ticks=400")
    wait_for(lambda: workers_of(run))
    assert main(["+recipe=two", "stages.first.ticks=400"]) == 2
    assert f"another run works here (process {process.pid} since" in capfd.readouterr().err
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not workers_of(run), 5)
    assert main(["+recipe=two"]) == 0


def test_what_another_run_did_between_plan_and_lock_is_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its finished work was made anew by other settings, unasked."""
    locked = execute.locked

    def late(run: Path) -> object:
        monkeypatch.setattr(execute, "locked", locked)
        assert main(["+recipe=two"]) == 0
        return locked(run)

    monkeypatch.setattr(execute, "locked", late)
    assert main(["+recipe=two", "stages.first.words=other"]) == 2
    assert capfd.readouterr().err == "outputs/two: another run has just worked here. Give the same command again.\n"
    assert "hello" in (folder / "outputs/two/first/said.txt").read_text()


def test_plan_and_provenance_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """plan.json lists the stages in order; provenance.json has what a reader needs and no token."""
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    assert main(["+recipe=two"]) == 0
    run = folder / "outputs" / "two"
    plan = json.loads((run / "plan.json").read_text())
    assert [(stage["name"], stage["needs"]) for stage in plan["stages"]] == [("first", []), ("second", ["first"])]
    provenance = json.loads((run / "provenance.json").read_text())
    assert {"command", "git", "packages", "hardware", "seed"} <= set(provenance)
    texts = [file.read_text() for file in run.rglob("*") if file.is_file()]
    assert texts and not any("hf_verysecret" in text for text in texts)


def test_a_second_signal_ends_a_deaf_stage_at_once(folder: Path) -> None:
    """A stage that does not listen is killed, with all that it started."""
    run = folder / "outputs" / "two"
    process = start("stages.first.ticks=4000", "stages.first.fail=deaf")
    wait_for(lambda: (run / "first" / "log.txt").is_file() and "hello" in (run / "first" / "log.txt").read_text())
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 130 and not workers_of(run)


def test_ctrl_c_in_a_real_terminal_is_delivered_once(folder: Path) -> None:
    """The terminal sends SIGINT to the whole foreground group: the worker, in a session of its own, gets one only."""
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(sys.executable, ["-m", "runner", "+recipe=two", "stages.first.ticks=400"], timeout=20)
    child.expect("hello")
    child.sendintr()
    child.expect("first: stopped after")
    child.expect("The same command goes on")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_a_folder_that_cannot_be_made_is_one_sentence(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file where the run's folder should be."""
    (folder / "outputs").write_text("a file")
    assert main(["+recipe=two"]) in (1, 2)
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "outputs" in error


def test_a_stage_knows_the_width_of_the_terminal(folder: Path) -> None:
    """Its tables were 110 columns wide on a terminal of 80, every line of them broken."""
    pexpect = pytest.importorskip("pexpect")
    echo = folder / "plugins" / "stages" / "echo.py"
    echo.write_text(echo.read_text().replace("print(self.words,", 'print(os.environ.get("COLUMNS"),'))
    child = pexpect.spawn(sys.executable, ["-m", "runner", "+recipe=two"], timeout=30, dimensions=(24, 80))
    child.expect("  78 ")
    child.expect(pexpect.EOF)
