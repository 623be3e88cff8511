"""Bring one artifact in and write its receipt.

Made from an artifact block: from the user's own folder if `paths` names one, else from
data/<artifact>, where missing files are downloaded from the block's sources in their order and
archives are unpacked. Everything can be killed at any time and goes on where it was.
"""

from pathlib import Path
from typing import Any

from vireo.fetch import local, receipt
from vireo.fetch.download import Downloader
from vireo.fetch.local import artifact_dir, describe_missing
from vireo.fetch.receipt import readable
from vireo.utils.cli import log

Block = dict[str, Any]

__all__ = ["describe_missing", "fetch", "listing"]


def fetch(
    name: str, block: Block, config: Block, receipt_path: str | Path, accept_change: bool = False
) -> Block:
    """Make the artifact `name` available and write its receipt, which is returned.

    `accept_change` forgets recorded hashes and commits first. Raises VireoError with the manual
    step for exactly what is missing when it cannot be had.
    """
    if accept_change:
        receipt.forget(name)
    own = config.get("paths", {}).get(name)
    if own:
        root, state, source = local.use_own(name, block, own)
    else:
        root = artifact_dir(name)
        with receipt.exclusive(Path("data/.locks") / name, name):
            source = Downloader(name, block, config).run()
        state = local.inspect(block, root)
    for fewer in state.fewer:
        log.warning("%s: %s; the rest will be reported as missing", name, fewer)
    listed: dict[str, dict[str, Any]] = {
        shown: receipt.facts(path) for shown, path in sorted(state.listed.items())
    }
    if not own:
        for shown, facts in listed.items():
            receipt.enforce(name, shown, facts["size"], facts["sha256"], source)
    log.info("%s: ready in %s", name, root)
    return receipt.write(
        receipt_path, name, root, listed, source, state.found, block.get("licence")
    )


def listing(config: Block) -> str:
    """A table of all artifacts: size, where they are, what they are."""
    rows = []
    for name, block in sorted(config["artifacts"].items()):
        own = config["paths"].get(name)
        here = not describe_missing(name, block, config)
        where = own or str(artifact_dir(name))
        size = local.total_size(block)
        rows.append(
            (name, readable(size), where if here else f"not in {where}", block.get("title", ""))
        )
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows)
