"""A workflow of jobs that only wait for a file, under our executor: cheap enough for many tries."""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.world import HOME
from tests.slurm import queue

SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(HOME)!r})
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from vireo.workflow import slurm_executor
if not workflow.remote_exec:
    slurm_executor.install(ExecutorPluginRegistry(), logger)
rule all:
    input: expand("part/{{n}}", n=range(int(config["parts"])))
    localrule: True
rule part:
    output: "part/{{n}}"
    resources: slurm_partition="cpu", mem_mb=800, runtime=30
    shell: "touch started.{{wildcards.n}}; until [ -e go ]; do sleep 0.2; done; touch {{output}}"
"""


class Small:
    """A folder with the workflow; `go` lets its jobs finish."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Snakefile").write_text(SNAKEFILE)

    def launch(self, parts: int, *arguments: str) -> subprocess.Popen:
        """Start it; its output goes to the file `said`."""
        command = [
            *(sys.executable, "-m", "snakemake", "--executor", "slurm", "--jobs", "4"),
            *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
            *("--seconds-between-status-checks", "2", "--latency-wait", "10", "--keep-going"),
            *("--slurm-no-account", "--config", f"parts={parts}", *arguments),
        ]
        with open(self.folder / "said", "w") as said:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=said, stderr=subprocess.STDOUT, env=os.environ
            )
        queue.launched.append(process)
        return process

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def go(self) -> None:
        (self.folder / "go").touch()

    def started(self) -> int:
        return len(list(self.folder.glob("started.*")))

    def parts(self) -> int:
        return len(list(self.folder.glob("part/*")))


def job(number: str) -> dict[str, str]:
    """A job's facts, e.g. {"JobState": "RUNNING", "Restarts": "1"}."""
    shown = subprocess.run(
        ["scontrol", "--oneliner", "show", "job", number],
        capture_output=True, text=True, timeout=20,
    ).stdout  # fmt: skip
    return dict(word.split("=", 1) for word in shown.split() if "=" in word)
