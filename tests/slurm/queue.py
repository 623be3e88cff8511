"""What the tests on a cluster share: the workflow with the slurm profile, and SLURM's own words."""

import copy
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.e2e import world
from tests.e2e.world import HOME, SHORT, Place, same

PROFILE = [
    *("--workflow-profile", str(HOME / "profiles/slurm")),
    # A shared cluster must not be asked so often; this one is ours.
    *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
]
SLOW = (
    "def embed_video(self, clips: Tensor) -> Tensor:",
    """def embed_video(self, clips: Tensor) -> Tensor:
        import pathlib, time
        done = ViCLIP.done = getattr(ViCLIP, "done", 0) + 1
        while done > 1 and pathlib.Path("hold").exists():
            time.sleep(0.1)
""",
)

launched: list[subprocess.Popen] = []  # whatever a failed test left running is ended after it


class Cluster(Place):
    """A working directory whose jobs run on SLURM."""

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        """The launcher with the slurm profile."""
        command = super().command(*arguments)
        at = command.index("--cores")
        return [*command[:at], *command[at + 2 :], *PROFILE]

    def environment(self, **more: str) -> dict[str, str]:
        """Whether jobs trust their devices is for the workflow to say."""
        env = super().environment(**more)
        del env["VIREO_TRUST_DEVICES"]
        return env

    def as_straight(self, folder: Path) -> None:
        """What the cluster left is what one shard on this machine gives, and nothing beside it."""
        straight = Place(folder, copy.deepcopy(self.config) | {"shards": 1})
        straight.make(SHORT)
        same(self.predictions(), straight.predictions())
        assert self.result()["metrics"] == straight.result()["metrics"]
        assert not self.leftovers()
        counts = self.journalled()
        # Nothing is lost; at most what both copies had in hand is there twice.
        assert len(counts) == 24 and set(counts.values()) <= {1, 2}


def jobs() -> dict[str, list[dict[str, str]]]:
    """Rule -> its jobs, with what SLURM says of them (finished ones too)."""
    listing = subprocess.run(
        ["squeue", "-h", "-r", "--states=all", "-o", "%F|%K|%P|%T|%N|%b|%C|%m|%l|%k"],
        capture_output=True, text=True, check=True, timeout=20,
    ).stdout  # fmt: skip
    names = ("job", "task", "partition", "state", "node", "gres", "cpus", "memory", "time", "rule")
    found = defaultdict(list)
    for line in listing.splitlines():
        job = dict(zip(names, line.split("|"), strict=True))
        found[re.sub(r"^rule_|_wildcards_.*", "", job["rule"])].append(job)
    return found


def wait(condition, what: str, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"never: {what}; {dict(jobs())}"
        time.sleep(0.2)


def launch(place: Place, *arguments: str, targets: Sequence[str] = (SHORT,)) -> subprocess.Popen:
    """Start the workflow; what it says goes to the file `said`."""
    with open(place.folder / "said", "w") as said:
        process = subprocess.Popen(
            place.command(*targets, *arguments), cwd=place.folder, env=place.environment(),
            stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    launched.append(process)
    return process


def journals(place: Place) -> list[Path]:
    return list(place.folder.glob("cache/predictions/*/*.jsonl"))


def settings(data: Path) -> dict[str, Any]:
    """Two shards, a video at a time, a GPU each."""
    config = world.settings(data / "Video-MME", data / "tiny.safetensors")
    config |= {"shards": 2, "batch_size": 1}
    config["models"]["tiny"]["hardware"] |= {"gpu": 1, "mem_gb": 1, "minutes_per_1000": 10}
    return config


def slow_checkout(checkout: Callable[[str], Path]) -> Path:
    """A copy of the checkout whose model waits after its first video while `hold` is there."""
    slow = checkout("slow")
    model = slow / "vireo/models/viclip.py"
    assert SLOW[0] in model.read_text()
    model.write_text(model.read_text().replace(*SLOW))
    return slow
