"""Our SLURM executor against stand-ins for SLURM's commands that fail as real ones were seen to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import snakemake_executor_plugin_slurm"]).returncode
    != 0,
    reason="the optional package snakemake-executor-plugin-slurm is not installed",
)
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(HOME)!r})
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from vireo.workflow import slurm_executor
slurm_executor.install(ExecutorPluginRegistry(), logger)
rule all:
    input: expand("part/{{n}}", n=range(int(config["parts"])))
    localrule: True
rule part:
    output: "part/{{n}}"
    shell: "touch {{output}}"
"""
SLOW_START = """
import time
import snakemake_executor_plugin_slurm as plugin
prompt = plugin.Executor.__post_init__
def late(self, *arguments):
    time.sleep(2)
    prompt(self, *arguments)
plugin.Executor.__post_init__ = late
"""
# Accepts jobs, refuses them while `refuse` holds a message, writes what each of them is asked for.
# A job whose number stands in `doomed` ends without its output, once.
SBATCH = """
import base64, fcntl, json, pathlib, re, subprocess, sys, zlib
lock = open("lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
refuse = pathlib.Path("refuse")
with open("calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
if refuse.exists():
    sys.exit("sbatch: error: Batch job submission failed: " + refuse.read_text())
jobs = pathlib.Path("jobs").read_text().splitlines() if pathlib.Path("jobs").exists() else []
job = 101 + len({line.split("|")[0].split("_")[0] for line in jobs})
command = sys.argv[-1]
tasks = {0: command}
if array := re.search(r"--array=(\\d+)-(\\d+)", " ".join(sys.argv)):
    later = json.loads(base64.b64decode(command.split("--slurm-jobstep-array-execs=")[1]))
    tasks = {int(array[1]): command}
    tasks |= {int(k): zlib.decompress(bytes.fromhex(v)).decode() for k, v in later.items()}
with open("jobs", "a") as out:
    for task, text in tasks.items():
        number = re.search(r"part:n=(\\d+)", text)[1]
        print(f"{job}_{task}" if task else job, number, sep="|", file=out)
        doomed = pathlib.Path("doomed")
        if doomed.exists() and number in doomed.read_text().split():
            doomed.unlink()
            continue
        # The file and the mark of an unfinished job, as Snakemake inside of the job leaves them.
        subprocess.Popen(
            f"sleep 1; touch part/{number}; "
            f"rm -f .snakemake/incomplete/$(printf part/{number} | base64)",
            shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
print(job)
"""
# Lists every job, COMPLETED when its file is there (COMPLETING with `stuck`); fails while `down` is
# there; with `forgets` it omits jobs that are over or named in it.
SQUEUE = """
import os, pathlib, sys
if os.path.exists("down"):
    sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
jobs = pathlib.Path("jobs").read_text().splitlines() if pathlib.Path("jobs").exists() else []
for line in jobs:
    job, number = line.split("|")
    if os.path.exists(f"part/{number}"):
        if not os.path.exists("forgets"):
            print(f"{job}|COMPLETING" if os.path.exists("stuck") else f"{job}|COMPLETED")
    elif not os.path.exists("forgets") or number not in open("forgets").read().split():
        print(f"{job}|RUNNING")
"""
OTHERS = {
    "scontrol": "print('MaxArraySize = 1001'); print('MinJobAge = 300 sec')",
    "sacct": "import sys; sys.exit('Slurm accounting storage is disabled')",
    "sinfo": "",
    "scancel": "import sys; open('cancelled', 'w').write(' '.join(sys.argv[1:]))",
}


class Stand:
    """A folder with a small workflow and stand-ins for SLURM's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "part").mkdir()
        (folder / "Snakefile").write_text(SNAKEFILE)
        for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, **OTHERS}.items():
            script = folder / "bin" / name
            script.write_text(f"#!{sys.executable}\n{text}")
            script.chmod(0o755)

    def start(self, parts: int, *arguments: str, jobs: int = 2) -> subprocess.Popen[str]:
        """Start the workflow; its output goes to the file `output`."""
        command = [
            *(sys.executable, "-m", "snakemake", "--executor", "slurm", "--jobs", str(jobs)),
            *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"),
            *("--seconds-between-status-checks", "1", "--latency-wait", "5"),
            *("--default-resources", "slurm_partition=p", "mem_mb=100", "runtime=5"),
            *("--config", f"parts={parts}", *arguments),
        ]
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        with open(self.folder / "output", "w") as output:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT, text=True,
                env={**os.environ, "PATH": path},
            )  # fmt: skip

    def put(self, name: str, text: str = "") -> Path:
        """Write a file that the stand-ins look at."""
        (self.folder / name).write_text(text)
        return self.folder / name

    def finish(self, run: subprocess.Popen[str], seconds: float = 100) -> str:
        """Wait for a run that must succeed; its output."""
        try:
            self.until(lambda: run.poll() is not None, seconds)
        finally:
            run.kill()
        text = self.output()
        assert run.returncode == 0, text
        return text

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def until(self, condition, seconds: float = 60) -> None:
        """Wait for a condition."""
        import time

        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.output()
            time.sleep(0.1)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stand(tmp_path) -> Stand:
    return Stand(tmp_path)


@pytest.mark.slow
def test_more_jobs_than_slots_with_arrays(stand):
    """The plugin alone submits nothing here: three are handed over, four more are ready."""
    text = stand.finish(stand.start(7, "--slurm-array-jobs", "part", jobs=3))
    assert "Submitted array job" in text
    assert len(list((stand.folder / "part").iterdir())) == 7


@pytest.mark.slow
def test_a_queue_that_fails_and_then_forgets(stand):
    """Five failures in a row cost nothing; finished jobs are found by their outputs."""
    run = stand.start(2)
    stand.until(lambda: (stand.folder / "jobs").exists())
    down = stand.put("down")
    stand.until(lambda: "squeue has not answered" in stand.output())
    stand.put("forgets")
    down.unlink()
    text = stand.finish(run)
    assert text.count("not in the queue, outputs complete") == 2


def test_the_first_check_comes_before_the_executor_is_ready(stand):
    """On a busy machine it does; the thread that checks jobs must live through it."""
    path = stand.folder / "Snakefile"
    path.write_text(SLOW_START + path.read_text())
    stand.finish(stand.start(1), seconds=60)


def test_a_job_whose_node_does_not_confirm_its_end(stand):
    """The state COMPLETING may last for hours; the outputs say that the job is over."""
    stand.put("stuck")
    text = stand.finish(stand.start(1), seconds=60)
    assert "COMPLETING, outputs complete" in text


@pytest.mark.slow
def test_a_job_that_vanished_without_outputs_is_submitted_again(stand):
    stand.put("doomed", "1")
    stand.put("forgets", "1")
    text = stand.finish(stand.start(2, "--retries", "1"))
    assert "has left the queue without complete outputs" in text
    assert len(stand.calls()) == 3


@pytest.mark.slow
def test_refused_submissions_are_tried_again(stand):
    """No attempt is used up, so the job asks for no more memory than at first."""
    refuse = stand.put("refuse", "Unable to contact slurm controller (connect failure)")
    run = stand.start(3, "--slurm-no-account", jobs=3)
    stand.until(lambda: len(stand.calls()) >= 5)
    refuse.unlink()
    text = stand.finish(run)
    assert text.count("Tried again every 1 s") == 1
    assert "Error in rule" not in text and "trying to guess" not in text
    assert len((stand.folder / "jobs").read_text().splitlines()) == 3


def test_refused_for_good(stand):
    stand.put("refuse", "invalid partition specified: p")
    run = stand.start(1)
    assert run.wait(60) == 1
    assert "invalid partition specified" in stand.output() and len(stand.calls()) == 1


@pytest.mark.slow
def test_interrupted_while_submissions_are_refused(stand):
    stand.put("refuse", "Unable to contact slurm controller (connect failure)")
    run = stand.start(2)
    stand.until(lambda: len(stand.calls()) >= 3)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 1
