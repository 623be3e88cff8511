"""What is remembered about files from outside: receipts, first-seen hashes, cached hashes.

data/receipts/<artifact>.json says where an artifact lies and what it was; data/lock.json holds the
hashes and commits that were seen first where the configuration states none, and is enforced from
then on; cache/hashes.json spares reading gigabytes again while size, time and inode of a file stay.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from vireo.errors import VireoError
from vireo.utils import files, home
from vireo.utils.cli import log

LOCK = Path("data/lock.json")
OWN_FILE = "own file"  # how the source of a file named in `paths` begins
HASHES = Path("cache/hashes.json")
# Roles whose `file` stands for the folder that holds it (MMDuet's base: shards, index, tokenizer).
FOLDER_ROLES = frozenset({"base"})
_FRESH: ContextVar[bool] = ContextVar("read_again", default=False)
MODEL_FILES = (".safetensors", ".bin", ".json", ".txt", ".model")


@contextmanager
def exclusive(path: Path, what: str = "") -> Iterator[None]:
    """Hold an advisory lock on `path`; the kernel releases it when the process dies.

    `what` is announced when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if what:
                log.info("another process is busy with %s; waiting for it", what)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _shared_json(path: Path) -> Iterator[dict[str, Any]]:
    """Read, let the block change, and write back if it did; safe between processes."""
    with exclusive(path.parent / ".locks" / path.name):
        value = files.read_json(path) if path.exists() else {}
        before = files.digest(value)
        yield value
        if files.digest(value) != before:
            files.write_json(path, value)


def hash_of(path: Path) -> str:
    """sha256 of a file, from the cache while size, time of change and inode are the same."""
    stat = path.stat()
    name = str(path.resolve())
    known = _remembered().get(name)
    if known and known[:3] == _mark(stat) and known[4:] == [_entry_digest(name, known[:4])]:
        return known[3]
    if stat.st_size > 1 << 28:
        log.info("checking %s (%s)", path, readable(stat.st_size))
    value = files.sha256(path)
    remember_hash(path, value)
    return value


def remember_hash(path: Path, sha256: str) -> None:
    """Put a hash into the cache that was worked out while the file was written."""
    stat = path.stat()
    with _shared_json(HASHES) as cache:
        name, entry = str(path.resolve()), [*_mark(stat), sha256]
        cache[name] = [*entry, _entry_digest(name, entry)]


@contextmanager
def read_again() -> Iterator[None]:
    """Within the block every file is read for its hash, whatever is remembered of it."""
    token = _FRESH.set(True)
    try:
        yield
    finally:
        _FRESH.reset(token)


def _remembered() -> dict[str, list[Any]]:
    """Path -> size, mtime_ns, inode, sha256, digest of these; of files hashed earlier."""
    if _FRESH.get():
        return {}
    try:
        return files.read_json(HASHES) if HASHES.exists() else {}
    except VireoError:
        # The cache may be deleted or damaged at any time; it is only made again.
        HASHES.unlink(missing_ok=True)
        return {}


def _entry_digest(name: str, entry: list[Any]) -> str:
    """Guards an entry of the cache: a flipped digit must not become a file's hash."""
    return files.digest([name, *entry], 8)


def _mark(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def folder_hash(folder: Path) -> str:
    """Digest of a model folder's files (name, size, sha256), those of other kinds left out.

    Only the folder itself counts, not what lies deeper: a model is read from one folder.
    """
    found = {
        path.name: [path.stat().st_size, hash_of(path)]
        for path in sorted(folder.iterdir())
        if path.suffix in MODEL_FILES and path.is_file() and not path.name.startswith(".")
    }
    return files.digest(found, 64)


def role_hash(block: dict[str, Any], role: str) -> str | None:
    """Hash of what a block's `files` names for a role: a file, or a folder (`FOLDER_ROLES`)."""
    path = named(block, role)
    if path is None:
        return None
    return folder_hash(path.parent) if role in FOLDER_ROLES else hash_of(path)


def enforce(artifact: str, name: str, size: int, sha256: str, source: str) -> None:
    """Record a file's hash when it is seen first; VireoError when it is another one later."""
    with _shared_json(LOCK) as lock:
        known = lock.setdefault(artifact, {}).setdefault("files", {})
        entry = known.setdefault(name, {"size": size, "sha256": sha256, "source": source})
    if entry["sha256"] != sha256:
        raise VireoError(
            f"{artifact}: {name} has changed: sha256 {sha256}, but {entry['sha256']} was recorded "
            f"in {LOCK} on its first download. If the new file is the right one: "
            f"{home.script('fetch', artifact, '--accept-change')}"
        )


def recorded(artifact: str, name: str) -> dict[str, Any]:
    """Size and sha256 that were recorded for a file ({} if none)."""
    lock = files.read_json(LOCK) if LOCK.exists() else {}
    return lock.get(artifact, {}).get("files", {}).get(name, {})


def pinned(artifact: str, repo: str, revision: str) -> str:
    """The commit recorded for a moving revision, else the revision itself."""
    lock = files.read_json(LOCK) if LOCK.exists() else {}
    return lock.get(artifact, {}).get("commits", {}).get(f"{repo}@{revision}", revision)


def pin(artifact: str, repo: str, revision: str, commit: str) -> None:
    """Record the commit that a revision stood for at the first download."""
    if commit != revision:
        with _shared_json(LOCK) as lock:
            commits = lock.setdefault(artifact, {}).setdefault("commits", {})
            commits.setdefault(f"{repo}@{revision}", commit)


def forget(artifact: str) -> None:
    """Drop what was recorded for an artifact, so that its next state is accepted."""
    if LOCK.exists():
        with _shared_json(LOCK) as lock:
            lock.pop(artifact, None)


def read(path: str | Path) -> dict[str, Any]:
    """A receipt; VireoError when it is absent, or when what it points to has gone."""
    if not Path(path).exists():
        name = Path(path).stem
        raise VireoError(
            f"{name} is not here yet ({path}): run `{home.snakemake(str(path))}`, or "
            f"`{home.script('fetch', name)}`"
        )
    receipt = files.read_sealed_json(path, "receipt")
    root = located(receipt)
    receipt["root"] = str(root)
    if not root.exists():
        raise VireoError(
            f"{path} points to {root}, which is not there any more; delete the receipt and run "
            "the command again"
        )
    return receipt


def located(receipt: dict[str, Any]) -> Path:
    """The folder that a receipt speaks of.

    Receipts of earlier versions hold absolute paths: in a copied project, what was downloaded there
    (`…/data/<artifact>`) is looked for here.
    """
    root, local = Path(receipt["root"]), Path("data", receipt["artifact"])
    own = str(receipt.get("source", "")).startswith("own ")
    moved = root.is_absolute() and root.parts[-2:] == local.parts and local.is_dir()
    return local if moved and not own else root


def changed(path: str | Path) -> str | None:
    """The first file that is another one than its receipt says, in words; None without any.

    A file is read again only if its size, time of change or inode are not the recorded ones.
    Absent files are not changed ones. VireoError when the receipt is no receipt.
    """
    receipt = files.read_sealed_json(path, "receipt")
    root, remembered = located(receipt), _remembered()
    for name, then in receipt["files"].items():
        file = root / name
        if not then.get("sha256") or not file.is_file():
            continue  # videos: the inventory looks after them
        now = file.stat()
        if now.st_size != then["size"]:
            return f"{file} has {now.st_size} bytes, it had {then['size']}"
        if str(file.resolve()) not in remembered and then.get("mtime_ns") == now.st_mtime_ns:
            continue
        if hash_of(file) != then["sha256"]:
            return f"{file} has another content (sha256)"
    return None


def place(path: str | Path) -> Path:
    """Where an artifact lies: its folder, or the very file that the user's `paths` names."""
    receipt = read(path)
    root = Path(receipt["root"])
    one = str(receipt.get("source", "")).startswith(OWN_FILE)
    return root / next(iter(receipt["files"])) if one else root


def only_file(path: str | Path, name: str | None = None) -> Path:
    """The file of a one-file artifact (weights), or the named one; from its receipt."""
    receipt = read(path)
    names = list(receipt["files"])
    if name is not None and name in names:
        return Path(receipt["root"]) / name
    if name is not None or len(names) != 1:
        raise VireoError(
            f"artifact {receipt['artifact']}: "
            + (f"no file {name!r}" if name else "which file? set `weights: {file: …}`")
            + f"; it has {', '.join(names) or 'none'}"
        )
    return Path(receipt["root"]) / names[0]


def named(block: dict[str, Any], role: str) -> Path | None:
    """The file that a model or recipe block names under `files: {role: {artifact, file}}`.

    None when it names none. `file` is a path below the artifact's folder, or a name at any depth;
    it may be left out for an artifact of one file. VireoError when it is not there.
    """
    entry = (block.get("files") or {}).get(role)
    if entry is None:
        return None
    path, name = Path("data/receipts") / f"{entry['artifact']}.json", entry.get("file")
    if name is None:
        return only_file(path)
    root = Path(read(path)["root"])
    if (root / name).is_file():
        return root / name
    found = sorted(root.rglob(Path(name).name), key=lambda p: (len(p.parts), str(p)))
    if not found:
        raise VireoError(f"artifact {entry['artifact']}: no file {name} below {root}")
    return found[0]


def facts(path: Path) -> dict[str, Any]:
    """What a receipt says of a file."""
    seen = path.stat()  # before it is read: a change meanwhile is noticed later
    return {"size": seen.st_size, "mtime_ns": seen.st_mtime_ns, "sha256": hash_of(path)}


def write(
    path: str | Path,
    artifact: str,
    root: Path,
    listed: dict[str, dict[str, Any]],
    source: str,
    found: dict[str, int] | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """Write a receipt: `listed` are files relative to `root` with size, mtime_ns and sha256."""
    receipt = {
        "artifact": artifact,
        "root": files.portable(root),
        "files": listed,
        "source": source,
        "found": found or {},
        "licence": licence,
    }
    files.write_json(path, receipt, sealed=True)
    return receipt


def readable(size: float | None) -> str:
    """1234567 -> '1.2 MB'; None -> 'unknown size'."""
    if size is None:
        return "unknown size"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
