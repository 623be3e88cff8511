"""A profile for SLURM against this site: everything that would make jobs wait or be refused."""

import difflib
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from vireo.doctor.finding import Finding
from vireo.doctor.slurm_site import Partition, Site, look
from vireo.errors import VireoError

PACKAGE, TESTED = "snakemake-executor-plugin-slurm", "2.8."
GPU_RULES = ("infer", "infer_control", "train")
RULES = ("prepare", "frames", "score", "report", *GPU_RULES)
TRAIN_MINUTES = 24 * 60  # rules/train.smk
QUEUE_SECONDS = 90  # three times slurm-init-seconds-before-status-checks of the shipped profile


def check(profile: Path) -> Iterator[Finding]:
    """Findings about a profile (its folder or its config.yaml) on the machine this runs on."""
    settings = read(profile)
    yield from _plugin()
    if not shutil.which("sbatch"):
        yield Finding(
            "problem", "SLURM: no sbatch on PATH; run this on a login node of the cluster"
        )
        return
    site = look()
    if site is None:
        yield Finding(
            "problem",
            "SLURM: the controller does not answer (scontrol show config); until it does, jobs "
            "cannot be submitted, and those that run go on",
        )
        return
    yield from findings(settings, site)


def read(profile: Path) -> dict[str, Any]:
    """A profile's settings; VireoError names a file that is missing or no mapping."""
    path = profile / "config.yaml" if profile.is_dir() else profile
    try:
        settings = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise VireoError(f"{path}: cannot be read as a profile: {error}") from error
    if not isinstance(settings, dict):
        raise VireoError(f"{path}: a profile is a mapping of options, as in profiles/slurm")
    return settings


def findings(settings: dict[str, Any], site: Site) -> Iterator[Finding]:
    """What the settings of a profile ask for and the site does not give."""
    yield from _status(settings, site)
    yield from _account(settings, site)
    for rule in RULES:
        yield from _partition(rule, resources(settings, rule), site)
    for rule in GPU_RULES:
        yield from _gpu(rule, resources(settings, rule), site)
    yield from _limits(settings, site)


def resources(settings: dict[str, Any], rule: str) -> dict[str, Any]:
    """Resources that a profile gives a rule: `default-resources`, then `set-resources`."""
    chosen = settings.get("set-resources") or {}
    if isinstance(chosen, list):  # as on the command line: infer:slurm_partition=gpu
        pairs = [entry.partition(":")[::2] for entry in chosen]
        return _mapping(settings.get("default-resources")) | _mapping(
            [value for name, value in pairs if name == rule]
        )
    return _mapping(settings.get("default-resources")) | _mapping(chosen.get(rule))


def _mapping(entries: dict[str, Any] | list[str] | None) -> dict[str, Any]:
    if isinstance(entries, list):
        return dict(entry.partition("=")[::2] for entry in entries)
    return dict(entries or {})


def _plugin() -> Iterator[Finding]:
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        yield Finding("problem", f"{PACKAGE} is not installed: make setup, or pip install it")
        return
    if not version.startswith(TESTED):
        yield Finding(
            "note",
            f"{PACKAGE} {version}: Vireo was tested with {TESTED}*; jobs are watched, refused "
            "submissions are not repeated (docs/slurm.md)",
        )


def _status(settings: dict[str, Any], site: Site) -> Iterator[Finding]:
    age = site.seconds("MinJobAge")
    sacct = settings.get("slurm-status-command") == "sacct"
    if sacct and not site.accounting:
        yield Finding(
            "problem",
            "slurm-status-command: sacct, but this site has no accounting database "
            f"(AccountingStorageType = {site.config.get('AccountingStorageType')}): use squeue",
        )
    elif sacct:
        yield Finding(
            "note",
            "slurm-status-command: sacct notices a cancelled job some minutes late; squeue at once",
        )
    if age is not None and age < QUEUE_SECONDS and not site.accounting:
        yield Finding(
            "note",
            f"MinJobAge is {age} s: the queue forgets finished jobs before they are looked at. "
            "Finished ones are recognised by their outputs; failed ones are noticed after two "
            f"minutes. Better: the site sets MinJobAge to {QUEUE_SECONDS} or more",
        )
    if settings.get("slurm-array-jobs"):
        yield Finding(
            "note",
            "slurm-array-jobs: version 2.8.0 of the executor holds jobs of such rules back; Vireo "
            "submits them all the same, one by one where they come singly (docs/slurm.md)",
        )


def _account(settings: dict[str, Any], site: Site) -> Iterator[Finding]:
    names = {str(a) for rule in RULES if (a := resources(settings, rule).get("slurm_account"))}
    known = [account.lower() for account in site.accounts]
    for name in sorted(names):
        if site.accounts and name.lower() not in known:
            yield Finding(
                "problem",
                f"slurm_account: {name} is not one of your accounts{_near(name, site.accounts)}",
            )
    if names or not site.account_required:
        return
    if not site.accounts:
        yield Finding(
            "problem",
            "this site refuses jobs without an account, and you have none in its database: ask "
            "the site for one",
        )
    elif not site.default_account or site.default_account not in site.accounts:
        yield Finding(
            "problem",
            "this site refuses jobs without an account and you have no default one: add "
            f"`slurm_account: {site.accounts[0]}` to default-resources"
            f" (yours: {', '.join(site.accounts)})",
        )
    else:
        yield Finding("here", f"jobs are charged to your default account {site.default_account}")


def _partition(rule: str, wanted: dict[str, Any], site: Site) -> Iterator[Finding]:
    for one in str(wanted.get("slurm_partition") or "").split(","):
        if one and one not in site.partitions:
            yield Finding(
                "problem",
                f"{rule}: there is no partition {one}{_near(one, list(site.partitions))}; edit "
                "slurm_partition in the profile",
            )
        elif one and not site.partitions[one].up:
            yield Finding("note", f"{rule}: partition {one} is down at present, jobs will wait")


def _chosen(wanted: dict[str, Any], site: Site) -> list[Partition]:
    names = str(wanted.get("slurm_partition") or "").split(",")
    return [site.partitions[name] for name in names if name in site.partitions]


def _gpu(rule: str, wanted: dict[str, Any], site: Site) -> Iterator[Finding]:
    chosen = _chosen(wanted, site)
    if not chosen:
        return
    where = f"{rule}: partition {' or '.join(one.name for one in chosen)}"
    types = {kind for one in chosen for kind in one.gpus}
    gres = re.fullmatch(r"gpu(?::([A-Za-z][\w.-]*))?(?::(\d+))?", str(wanted.get("gres") or ""))
    if not types:
        others = [p.name for p in site.partitions.values() if p.gpus]
        has = f"; {', '.join(others)} has" if others else ", nor has any other"
        yield Finding("problem", f"{where} has no GPUs{has} (sinfo -o '%R %G')")
        return
    if wanted.get("gres") and not gres:
        yield Finding("problem", f"{rule}: gres: {wanted['gres']} is not `gpu:1` or `gpu:TYPE:1`")
    elif not gres and str(wanted.get("gpu")) == "0":
        yield Finding("problem", f'{rule}: `gpu: 0` without `gres: "gpu:1"` asks for no GPU')
    if not gres and site.config.get("SelectType", "").endswith("cons_res"):
        yield Finding(
            "problem",
            f"{rule}: this site does not understand --gpus (SelectType = select/cons_res): write "
            '`gpu: 0, gres: "gpu:1"` in the profile',
        )
    kind = str(wanted.get("gpu_model") or (gres and gres[1]) or "")
    if kind and kind not in types:
        named = sorted(types - {""})
        hint = _near(kind, named) if named else "; its GPUs have no type, leave the type out"
        yield Finding("problem", f"{where} has no GPU of type {kind}{hint}")
    features = {feature for one in chosen for feature in one.features}
    for word in re.findall(r"[A-Za-z][\w.-]*", str(wanted.get("constraint") or "")):
        if word not in features:
            yield Finding(
                "problem", f"{where} has no node with feature {word}{_near(word, sorted(features))}"
            )
    if gres and gres[2]:
        most = max(
            one.gpus.get(gres[1] or "", max(one.gpus.values())) for one in chosen if one.gpus
        )
        if int(gres[2]) > most:
            yield Finding("problem", f"{where} has at most {most} GPUs on a node, not {gres[2]}")


def _limits(settings: dict[str, Any], site: Site) -> Iterator[Finding]:
    wanted = resources(settings, "train")
    for one in _chosen(wanted, site):
        asked = int(wanted["runtime"]) if _given(settings, "train", "runtime") else TRAIN_MINUTES
        if one.minutes is not None and one.minutes < asked:
            yield Finding(
                "problem",
                f"train: asks for {asked} min, partition {one.name} allows {one.minutes}: write "
                f"`set-resources: {{train: {{runtime: {one.minutes}}}}}`; training goes on from "
                "its last checkpoint at every attempt (`retries` in the profile)",
            )
    jobs = settings.get("jobs")
    if site.max_submit is not None and isinstance(jobs, int) and jobs > site.max_submit:
        yield Finding(
            "note",
            f"jobs: {jobs}, but the site accepts {site.max_submit} of your jobs at a time: write "
            f"`jobs: {site.max_submit}`, or the rest is refused until others finish",
        )


def _given(settings: dict[str, Any], rule: str, name: str) -> bool:
    chosen = settings.get("set-resources") or {}
    own = _mapping(chosen.get(rule)) if isinstance(chosen, dict) else {}
    return str(own.get(name, "")).isdigit()


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f" (there are: {', '.join(known)})" if known else ""
