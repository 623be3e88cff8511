"""What this SLURM site offers, asked with its own commands; nothing is submitted or changed."""

import getpass
import re
import subprocess
from dataclasses import dataclass, field


@dataclass
class Partition:
    """One partition: its time limit in minutes (None: none), GPU types, features of its nodes."""

    name: str
    up: bool = True
    minutes: int | None = None
    gpus: dict[str, int] = field(default_factory=dict)  # type ("" if untyped) -> most on a node
    features: set[str] = field(default_factory=set)


@dataclass
class Site:
    """Everything the checks look at."""

    config: dict[str, str]  # of the controller, e.g. {"MinJobAge": "300 sec"}
    partitions: dict[str, Partition]
    accounts: list[str]  # those that the user may charge, as far as the accounting says
    default_account: str
    max_submit: int | None  # jobs of the user that may be pending or running

    @property
    def accounting(self) -> bool:
        """Whether a database records jobs, so that sacct answers."""
        return self.config.get("AccountingStorageType", "").endswith("/slurmdbd")

    @property
    def account_required(self) -> bool:
        """Whether jobs without a valid account are refused."""
        enforced = self.config.get("AccountingStorageEnforce", "none").lower().split(",")
        return bool({"associations", "limits", "qos", "safe", "wckeys", "all"} & set(enforced))

    def seconds(self, key: str) -> int | None:
        """A time of the controller's configuration."""
        found = re.match(r"(\d+)", self.config.get(key, ""))
        return int(found[1]) if found else None


def ask(*command: str) -> list[str]:
    """Lines that a command prints; [] when it fails, is absent or takes over half a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def look() -> Site | None:
    """The site as its commands describe it; None when the controller does not answer."""
    config = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in _config())
    if not config:
        return None
    user = getpass.getuser()
    accounts, limits = [], []
    for line in ask(
        *("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account,maxsubmit")
    ):
        account, _, limit = line.partition("|")
        accounts.append(account)
        limits += [int(limit)] if limit.isdigit() else []
    default = ask("sacctmgr", "-nP", "show", "user", user, "format=defaultaccount")
    return Site(
        config,
        partitions(ask("sinfo", "--noheader", "--format=%R|%a|%l|%G|%f")),
        list(dict.fromkeys(accounts)),
        default[0] if default else "",
        min(limits) if limits else None,
    )


def _config() -> list[str]:
    return [line for line in ask("scontrol", "show", "config") if re.match(r"\w+\s*=", line)]


def partitions(lines: list[str]) -> dict[str, Partition]:
    """Lines `name|up|time limit|gres|features` of sinfo, several for unequal nodes."""
    found: dict[str, Partition] = {}
    for line in lines:
        name, up, limit, gres, features = line.split("|")
        one = found.setdefault(name, Partition(name, up == "up", minutes(limit)))
        for kind, count in re.findall(r"gpu(?::([A-Za-z][\w.-]*))?:(\d+)", gres):
            one.gpus[kind] = max(one.gpus.get(kind, 0), int(count))
        one.features |= {f for f in features.split(",") if f and f != "(null)"}
    return found


def minutes(limit: str) -> int | None:
    """`[days-]hours:minutes:seconds` (or `minutes:seconds`) as minutes; None for `infinite`."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if not found:
        return None
    days, hours, mins, secs = (int(n or 0) for n in found.groups())
    return days * 1440 + hours * 60 + mins + (secs > 0)
