"""How many processes train a recipe, on which cards and machines, and the command that starts them.

One machine: `torchrun` with a process per GPU, the cards held by their locks. Several machines of
a SLURM job: one `torchrun` on each by `srun`, which meet at the first machine of the job's node
list. The same recipe and the same checkpoints in every case (vireo/training/data.py cuts a step's
batch by the number of processes).
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from vireo.errors import VireoError
from vireo.utils import gpu_lock
from vireo.utils.gpus import visible_gpus

PORTS = range(20_000, 30_000)
KEPT = ("SLURM_JOB_ID", "SLURM_CONF", "SLURM_CLUSTER_NAME")


def processes(wanted: int | None, recipe: Mapping[str, Any], kind: str) -> int:
    """Processes on this machine: as asked for, else a GPU each as far as `hardware.gpu` goes."""
    if wanted is not None:
        return max(1, wanted)
    gpus = int((recipe.get("hardware") or {}).get("gpu", 1))
    return max(1, min(gpus, visible_gpus())) if kind != "cpu" else 1


def machines(environ: Mapping[str, str]) -> list[str]:
    """Names of the machines of this SLURM job, [] outside of one; VireoError if SLURM is silent."""
    job = environ.get("SLURM_JOB_ID")
    if not job:
        return []
    try:
        found = _said(["squeue", "--noheader", "--jobs", job, "--format", "%N"])
        return _said(["scontrol", "show", "hostnames", found[0]])
    except (OSError, IndexError, subprocess.SubprocessError) as error:
        raise VireoError(f"cannot ask SLURM for the machines of job {job}: {error}") from error


def _said(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def address(host: str) -> str:
    """Where SLURM reaches a machine: its name need not be known outside of SLURM."""
    try:
        found = re.search(r"\bNodeAddr=(\S+)", " ".join(_said(["scontrol", "show", "node", host])))
    except (OSError, subprocess.SubprocessError):
        found = None
    return found[1] if found else host


def command(
    arguments: Sequence[str],
    count: int,
    hosts: Sequence[str],
    environ: Mapping[str, str],
    meet: str = "",
) -> list[str]:
    """What starts `arguments` (a script and its options) `count` times on each of `hosts`.

    Several hosts meet at the address `meet`, by default the first one's name.
    """
    run = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}"]
    arguments = ["--", *arguments]  # else torchrun takes our --log for one of its own options
    if len(hosts) < 2:
        return [*run, "--standalone", *arguments]
    job = environ["SLURM_JOB_ID"]
    port = PORTS[int(job) % len(PORTS)]
    run += [f"--nnodes={len(hosts)}", "--rdzv-backend=c10d", f"--rdzv-id=vireo-{job}"]
    run += [f"--rdzv-endpoint={meet or hosts[0]}:{port}"]
    # --overlap: Snakemake's own step holds the job's processors and cards already.
    step = ["srun", f"--jobid={job}", f"--nodes={len(hosts)}", f"--ntasks={len(hosts)}"]
    return [*step, "--ntasks-per-node=1", "--overlap", "--kill-on-bad-exit=1", *run, *arguments]


def run(arguments: Sequence[str], count: int, hosts: Sequence[str], kind: str) -> int:
    """Start the processes, pass SIGTERM on to them, and return the exit status when all are done.

    On GPUs of a machine without a scheduler, `count` cards are held until then.
    """
    env = dict(os.environ)
    if len(hosts) > 1:
        # What describes the step we are in must not shape the new one.
        env = {k: v for k, v in env.items() if not k.startswith("SLURM_") or k in KEPT}
    with ExitStack() as stack:
        if kind == "cuda" and env.get("VIREO_TRUST_DEVICES") != "1":
            held = stack.enter_context(gpu_lock.acquire_many(count))
            env["CUDA_VISIBLE_DEVICES"] = ",".join(held)
        meet = address(hosts[0]) if len(hosts) > 1 else ""
        child = subprocess.Popen(command(arguments, count, hosts, env, meet), env=env)
        before = signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
        stack.callback(signal.signal, signal.SIGTERM, before)
        return child.wait()
