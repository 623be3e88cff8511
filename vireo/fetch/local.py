"""What of an artifact is already on this machine, and how a person gets the rest.

Made from an artifact block and a folder: which wanted files stand there, under their own or an
accepted name, and whether they are what they should be. Nothing here touches the network.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.fetch.receipt import readable
from vireo.utils import files
from vireo.utils.files import inside

Block = dict[str, Any]
NOTES = ".vireo"  # our own folder inside data/<artifact>: partial downloads, unpacked archives


@dataclass
class State:
    """What was found: files to list in the receipt, counts of the rest, and what is not there."""

    listed: dict[str, Path] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    fewer: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True when nothing is missing, not even in part."""
        return not self.missing and not self.fewer


def artifact_dir(artifact: str) -> Path:
    """Where downloads of an artifact go: data/<artifact> in the working directory."""
    return Path("data") / artifact


def inspect(block: Block, root: Path) -> State:
    """Judge a folder by the block's `wants`, else by its `files`; no hash is computed."""
    state = State()
    if block.get("wants"):
        note = root / NOTES / "complete.json"
        whole = files.read_json(note) if note.exists() else {}
        for want in block["wants"]:
            _look_for_want(want, root, state, whole.get(want["what"]))
        return state
    for entry in block.get("files", []):
        if packed(entry):
            if members := _unpacked_members(entry, root):
                state.found[entry["name"]] = members
            elif not entry.get("optional"):
                state.missing.append(_describe_file(entry))
            continue
        at = find(entry, root)
        if at is None:
            if not entry.get("optional"):
                state.missing.append(_describe_file(entry))
        else:
            state.listed[str(at[1].relative_to(root))] = at[1]
    return state


def packed(entry: Block) -> bool:
    """True for a file that is an archive to unpack."""
    return entry.get("extract") is not None


def target(entry: Block, root: Path) -> Path:
    """Folder into which an archive is unpacked."""
    return inside(root, entry["extract"].get("to", "."))


def marker(root: Path, archive: str) -> Path:
    """Note that is written when an archive has been unpacked; lists its members."""
    return inside(root / NOTES / "unpacked", f"{archive}.json")


def unpacked(entry: Block, root: Path) -> bool:
    """True when every member of an archive stands where it was put."""
    note = marker(root, entry["name"])
    if not note.exists():
        return False
    place = target(entry, root)
    return all((place / name).exists() for name in files.read_json(note)["members"])


def _unpacked_members(entry: Block, root: Path) -> int:
    """Number of members in place of an archive or a pattern of archives; 0 if not all are."""
    notes = root / NOTES / "unpacked"
    known = [
        str(p.relative_to(notes))[: -len(".json")] for p in notes.glob(entry["name"] + ".json")
    ]
    if not known or not all(unpacked({**entry, "name": name}, root) for name in known):
        return 0
    return sum(len(files.read_json(marker(root, name))["members"]) for name in known)


def find(entry: Block, root: Path) -> tuple[Block, Path] | None:
    """The wanted file or an accepted alternative, with the block entry that describes it."""
    for candidate in (entry, *entry.get("accept", [])):
        for name in (candidate["name"], Path(candidate["name"]).name):
            path = inside(root, name)
            if path.is_file():
                return candidate, path
    return None


def note_complete(root: Path, state: State) -> None:
    """Remember how many files there are when everything has been fetched and unpacked.

    An upstream copy may lack a few; that is not asked for again each time.
    """
    files.write_json(root / NOTES / "complete.json", state.found)


def _look_for_want(want: Block, root: Path, state: State, whole: int | None) -> None:
    matches = _matches(root, want["any"])
    many, what = want.get("count"), want["what"]
    if many is not None and whole is not None:
        many = min(many, whole)
    if many is None:
        for path in matches:
            state.listed[str(path.relative_to(root))] = path
        number = len(matches)
    else:
        # a.mp4 beside a.mkv is one video; folders have no ending.
        number = len({path if path.is_dir() else path.with_suffix("") for path in matches})
        state.found[what] = number
    if number == 0 and not want.get("optional"):
        places = " or ".join(want["any"][:4]) + (" or …" if len(want["any"]) > 4 else "")
        state.missing.append(f"{what}: {places}")
    elif many is not None and number < many and not want.get("optional"):
        state.fewer.append(f"{what}: {number} of {many}")


def _matches(root: Path, patterns: list[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            if not hidden:
                found[path] = None
    return list(found)


def check(entry: Block, path: Path, artifact: str) -> None:
    """Raise VireoError when a file is not the declared one (size, sha256)."""
    size, sha256 = path.stat().st_size, entry.get("sha256")
    fix = (
        f"Delete it and run again, or get it anew; to use another file on purpose, name the file "
        f"itself under another name in `paths: {{{artifact}: …}}`"
    )
    if entry.get("size") is not None and size != entry["size"]:
        raise VireoError(
            f"{path} has {size} bytes, {entry['name']} has {entry['size']}: truncated or another "
            f"file. {fix}"
        )
    if sha256 and receipt.hash_of(path) != sha256.lower():
        raise VireoError(
            f"{path} is damaged or another file: sha256 is {receipt.hash_of(path)}, "
            f"{sha256.lower()} expected. {fix}"
        )


def use_own(artifact: str, block: Block, where: str) -> tuple[Path, State, str]:
    """The user's copy at `where`: (root, state, source); VireoError says what is missing."""
    path = Path(where).expanduser()
    key = f"paths.{artifact}"
    if not path.exists():
        raise VireoError(f"{key} names {path}, which does not exist (config/config.yaml)")
    if path.is_file():
        known = [c for e in block.get("files", []) for c in (e, *e.get("accept", []))]
        for entry in known:
            if Path(entry["name"]).name == path.name:
                check(entry, path, artifact)
        return path.parent, State(listed={path.name: path}), f"{receipt.OWN_FILE} {path.name}"
    state = inspect(block, path)
    if state.missing:
        archives = [
            str(p.relative_to(path))
            for e in block.get("files", [])
            if packed(e)
            for p in _matches(path, [e["name"], Path(e["name"]).name])
        ]
        hint = (
            f"It holds archives ({', '.join(archives[:3])}{', …' if len(archives) > 3 else ''}): "
            f"unpack them there, or link them into {artifact_dir(artifact)}/ without a `paths` "
            "entry to have it done"
            if archives
            else "Correct the path, or remove it to have the artifact fetched"
        )
        raise VireoError(
            f"{key}: {path} does not have "
            + "; ".join(state.missing)
            + f". {hint} (config/config.yaml)"
        )
    for entry in block.get("files", []):
        at = find(entry, path)
        if at is not None:
            check(*at, artifact)
    return path, state, "own folder"


def describe_missing(artifact: str, block: Block, config: Block) -> str:
    """What is missing of an artifact and the manual steps that fix it; "" when nothing does.

    For error texts, the workflow's dry run and the doctor. Reads folders, never the network.
    """
    own = config.get("paths", {}).get(artifact)
    if own:
        try:
            take_quickly(block, own)
            return ""
        except VireoError as error:
            return f"{artifact}: paths.{artifact} (config/config.yaml): {error}"
    root = artifact_dir(artifact)
    state = inspect(block, root)
    todo = [*state.missing, *state.fewer]
    if not todo:
        return ""
    size = total_size(block)
    facts = [block.get("title", ""), readable(size) if size else "", _licence(block)]
    known = ", ".join(fact for fact in facts if fact)
    lines = [f"{artifact}{f' ({known})' if known else ''} is not here yet:"]
    lines += [f"  - {text}" for text in todo]
    if block.get("by_hand"):
        lines.append("  By hand:")
        lines += [f"    {line}" for line in block["by_hand"].strip().splitlines()]
    lines.append(f"  Then put it into {root.resolve()}/, or name your copy in config/config.yaml:")
    lines.append(f"    paths: {{{artifact}: /your/folder}}")
    if state.fewer or block.get("wants"):
        lines.append(
            "  A folder named there may be incomplete: what is missing is reported as missing."
        )
    return "\n".join(lines)


def take_quickly(block: Block, where: str) -> None:
    """The existence part of `take`, without hashes."""
    path = Path(where).expanduser()
    if not path.exists():
        raise VireoError(f"{path} does not exist")
    if path.is_dir() and (missing := inspect(block, path).missing):
        raise VireoError(f"{path} does not have " + "; ".join(missing))


def total_size(block: Block) -> int | None:
    """Bytes to download as far as known; None when no file says its size."""
    sizes = [s for e in block.get("files", []) if (s := e.get("size") or e.get("about"))]
    return sum(sizes) if sizes else None


def _licence(block: Block) -> str:
    return f"licence: {block['licence']}" if block.get("licence") else ""


def _describe_file(entry: Block) -> str:
    size = entry.get("size") or entry.get("about")
    facts = [readable(size)] if size else []
    if entry.get("sha256"):
        facts.append(f"sha256 {entry['sha256']}")
    others = [a["name"] for a in entry.get("accept", [])]
    return (
        entry["name"]
        + (f" ({', '.join(facts)})" if facts else "")
        + (f"; or one of {', '.join(others)}" if others else "")
    )
