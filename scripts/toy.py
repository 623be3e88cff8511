"""Make one part of the toy world: python scripts/toy.py toy_videomme --out data/toy_videomme."""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from vireo import toy
from vireo.utils import cli
from vireo.utils.files import portable, sha256, write_json

SMALL = 1_000_000  # bytes; larger files are videos, whose bytes may change with the encoder
ANNOTATIONS = {".json", ".parquet", ".srt"}


def receipt(artifact: str, root: Path) -> dict[str, object]:
    """List what lies in `root` with sizes, and the hashes of its annotation files."""
    files = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        seen = path.stat()
        hashed = path.suffix in ANNOTATIONS and seen.st_size <= SMALL
        files[path.relative_to(root).as_posix()] = {
            "size": seen.st_size,
            "mtime_ns": seen.st_mtime_ns,
            "sha256": sha256(path) if hashed else None,
        }
    return {"artifact": artifact, "root": portable(root), "files": files, "source": "toy"}


def main() -> int:
    """Parse the arguments, make the part beside its place, put it there, write the receipt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", help="artifact to make, for example toy_videomme")
    parser.add_argument("--out", required=True, type=Path, help="folder to make (or replace)")
    parser.add_argument("--receipt", type=Path, help="JSON file that lists what was made")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes another world")
    parser.add_argument("--log", help="also write the log here")
    args = parser.parse_args()
    cli.setup(args.log)

    make, started = toy.maker(args.part), time.process_time()
    out = args.out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        made = work / "new"
        make(made, args.seed)
        if out.exists():
            os.replace(out, work / "old")
        os.replace(made, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    listing = receipt(args.part, out)
    if args.receipt:
        write_json(args.receipt, listing, sealed=True)
    sizes = [entry["size"] for entry in listing["files"].values()]  # type: ignore[attr-defined]
    cli.log.info(
        "%s: %d files, %.1f MB, %.1f CPU s, in %s",
        args.part,
        len(sizes),
        sum(sizes) / 1e6,
        time.process_time() - started,
        out,
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
