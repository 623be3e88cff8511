"""A SLURM profile against a site: what is refused, what only waits, and what the fix is."""

import subprocess
import sys
from pathlib import Path

import pytest

from vireo.doctor import slurm, slurm_site
from vireo.doctor.slurm_site import Site
from vireo.errors import VireoError

HOME = Path(__file__).resolve().parents[2]
CONFIG = {
    "MinJobAge": "300 sec",
    "SelectType": "select/cons_tres",
    "AccountingStorageType": "accounting_storage/none",
    "AccountingStorageEnforce": "none",
}
SINFO = [
    "cpu|up|infinite|(null)|(null)",
    "gpu|up|1-00:00:00|gpu:a100:4(S:0-1)|a100,nvlink",
    "gpu|up|1-00:00:00|gpu:v100:2|v100",
]


def site(config=(), sinfo=SINFO, accounts=(), default="", max_submit=None) -> Site:
    parts = slurm_site.partitions(sinfo)
    return Site(CONFIG | dict(config), parts, list(accounts), default, max_submit)


def problems(settings, found=None, kind="problem") -> list[str]:
    return [f.what for f in slurm.findings(settings, found or site()) if f.kind == kind]


def profile(gpu=(), **more):
    wanted = {"slurm_partition": "gpu", **dict(gpu)}
    return {
        "jobs": 64,
        "default-resources": {"slurm_partition": "cpu", "runtime": 60},
        "set-resources": {rule: wanted for rule in slurm.GPU_RULES},
        **more,
    }


def test_the_shipped_profile_fits_a_site_with_its_partitions():
    settings = slurm.read(HOME / "profiles/slurm")
    assert problems(settings) == [] and problems(settings, kind="note") == []


def test_sinfo_is_read():
    found = slurm_site.partitions(SINFO)
    assert found["gpu"].gpus == {"a100": 4, "v100": 2}
    assert found["gpu"].features == {"a100", "nvlink", "v100"}
    assert found["gpu"].minutes == 1440 and found["cpu"].minutes is None
    untyped = slurm_site.partitions(["g*|down|30:00|gpu:8|(null)"])["g*"]
    assert untyped.gpus == {"": 8} and not untyped.up and untyped.minutes == 30


def test_partitions_that_do_not_exist():
    settings = profile({"slurm_partition": "gpus"})
    settings["default-resources"]["slurm_partition"] = "batch"
    found = problems(settings)
    assert any("prepare: there is no partition batch (there are: cpu, gpu)" in f for f in found)
    assert any("infer: there is no partition gpus; did you mean gpu?" in f for f in found)


def test_lists_as_on_the_command_line():
    settings = {
        "default-resources": ["slurm_partition=cpu"],
        "set-resources": ["infer:slurm_partition=gpu", "infer:gres=gpu:h100:1"],
    }
    assert slurm.resources(settings, "infer") == {"slurm_partition": "gpu", "gres": "gpu:h100:1"}
    assert any("infer: partition gpu has no GPU of type h100" in f for f in problems(settings))


@pytest.mark.parametrize(
    ("gpu", "text"),
    [
        ({"slurm_partition": "cpu"}, "partition cpu has no GPUs; gpu has"),
        ({"gpu_model": "a10"}, "has no GPU of type a10; did you mean a100"),
        ({"gpu": 0, "gres": "gpu:a100:8"}, "at most 4 GPUs on a node, not 8"),
        ({"gpu": 0, "gres": "gpus=1"}, "is not `gpu:1` or `gpu:TYPE:1`"),
        ({"gpu": 0}, "asks for no GPU"),
        ({"constraint": "a100|h100"}, "no node with feature h100; did you mean"),
    ],
)
def test_spelling_of_gpus(gpu, text):
    assert any(text in f for f in problems(profile(gpu))), problems(profile(gpu))


def test_a_site_that_does_not_know_gpus_as_an_option():
    old = site({"SelectType": "select/cons_res"})
    assert any("does not understand --gpus" in f for f in problems(profile(), old))
    assert problems(profile({"gpu": 0, "gres": "gpu:1"}), old) == []


def test_finished_jobs_are_forgotten_early():
    (note,) = problems(profile(), site({"MinJobAge": "2 sec"}), "note")
    assert "MinJobAge is 2 s" in note and "90 or more" in note
    recorded = {"MinJobAge": "2 sec", "AccountingStorageType": "accounting_storage/slurmdbd"}
    assert problems(profile(), site(recorded), "note") == []


def test_sacct_without_accounting():
    (found,) = problems(profile(**{"slurm-status-command": "sacct"}))
    assert "no accounting database" in found and "use squeue" in found


def test_accounts():
    enforced = {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageEnforce": "associations,limits",
    }
    (found,) = problems(profile(), site(enforced))
    assert "you have none in its database" in found
    (found,) = problems(profile(), site(enforced, accounts=["bio", "vision"]))
    assert "slurm_account: bio" in found and "yours: bio, vision" in found
    assert problems(profile(), site(enforced, accounts=["bio"], default="bio")) == []
    settings = profile()
    settings["default-resources"]["slurm_account"] = "vison"
    (found,) = problems(settings, site(enforced, accounts=["bio", "vision"], default="bio"))
    assert "slurm_account: vison is not one of your accounts; did you mean vision?" in found


def test_limits():
    short = [line.replace("1-00:00:00", "12:00:00") for line in SINFO]
    (found,) = problems(profile(), site(sinfo=short))
    assert "partition gpu allows 720" in found and "runtime: 720" in found
    shorter = profile()
    shorter["set-resources"]["train"] = {"slurm_partition": "gpu", "runtime": 700}
    assert problems(shorter, site(sinfo=short)) == []
    (note,) = problems(profile(), site(max_submit=20), "note")
    assert "accepts 20 of your jobs" in note and "`jobs: 20`" in note


def test_profiles_that_cannot_be_read(tmp_path):
    with pytest.raises(VireoError, match="nowhere"):
        slurm.read(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("- a\n")
    with pytest.raises(VireoError, match="a profile is a mapping"):
        slurm.read(tmp_path)


def test_command_without_a_cluster(tmp_path):
    done = subprocess.run(
        [sys.executable, HOME / "scripts/doctor.py", "--slurm"],
        capture_output=True, text=True, cwd=tmp_path, env={"PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1 and "no sbatch on PATH" in done.stdout, done.stderr
