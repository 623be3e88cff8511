"""A conda channel made of this machine's own Python, for tests where no real channel is reachable.

One package, `python`, repacked from the running interpreter. It proves that an environment file
parses, that its Python pin can be solved, that its pip pins install and that a rule really runs
inside; it says nothing about packages of conda-forge, of which our files use none.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

FULL = ".".join(str(part) for part in sys.version_info[:3])
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "__pycache__"}
LEFT_OUT |= {"site-packages", "share", "pkgconfig"}


def _members(base: Path) -> list[Path]:
    """Files of the interpreter, relative to its prefix."""
    found = []
    for top in ("bin", "lib", "include"):
        for path in sorted((base / top).rglob("*")):
            parts = path.relative_to(base).parts
            skipped = any(p in LEFT_OUT or p.startswith("config-") for p in parts)
            if (skipped and "ensurepip" not in parts) or path.suffix == ".a":
                continue
            if parts[0] == "bin" and not parts[1].startswith("python"):
                continue
            if path.is_symlink() or path.is_file():
                found.append(path.relative_to(base))
    return found


def _entry(base: Path, name: Path) -> dict:
    path = base / name
    content = path.resolve().read_bytes()
    entry = {
        "_path": str(name),
        "path_type": "softlink" if path.is_symlink() else "hardlink",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }
    if not path.is_symlink() and str(base).encode() in content and b"\0" not in content[:4096]:
        entry |= {"file_mode": "text", "prefix_placeholder": str(base)}
    return entry


def make(folder: Path) -> str:
    """Write the channel below `folder`; returns its file:// address."""
    base = Path(sys.base_prefix)
    members = _members(base)
    index = {
        "name": "python",
        "version": FULL,
        "build": "repacked_0",
        "build_number": 0,
        "subdir": "linux-64",
        "arch": "x86_64",
        "platform": "linux",
        "depends": [],
        "constrains": [],
    }
    info = {
        "info/index.json": json.dumps(index),
        "info/paths.json": json.dumps(
            {"paths": [_entry(base, m) for m in members], "paths_version": 1}
        ),
        "info/files": "".join(f"{m}\n" for m in members),
        "info/about.json": "{}",
    }
    archive = folder / "linux-64" / f"python-{FULL}-repacked_0.tar.bz2"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:bz2", compresslevel=1) as tar:
        for name, text in info.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        for name in members:
            tar.add(base / name, str(name), recursive=False)
    content = archive.read_bytes()
    record = index | {
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    for subdir, packages in (("linux-64", {archive.name: record}), ("noarch", {})):
        (folder / subdir).mkdir(exist_ok=True)
        repodata = {
            "info": {"subdir": subdir},
            "packages": packages,
            "packages.conda": {},
            "removed": [],
            "repodata_version": 1,
        }
        (folder / subdir / "repodata.json").write_text(json.dumps(repodata))
    return folder.as_uri()
