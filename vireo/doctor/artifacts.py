"""docs/artifacts.md: how to get every artifact, one section per source."""

from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

from vireo.fetch.receipt import readable

Block = dict[str, Any]
HEAD = (
    "# Every artifact, and how to get it",
    "",
    "Written by `scripts/generate.py` from the artifacts of the configuration, by where they come "
    "from. What can be fetched, `snakemake` fetches; for the rest the manual step is given here, "
    "and `vireo doctor TARGET` prints it when it is needed. What you have already is used in "
    "place: `paths: {NAME: /your/folder}` in `config/config.yaml`. Folder trees are in "
    "[data.md](data.md).",
)


def page(blocks: dict[str, Block]) -> str:
    """Text of the page. `blocks`: artifact -> its block, in the order of the configuration."""
    by_source: dict[str, list[str]] = {}
    for name, block in blocks.items():
        by_source.setdefault(_source(block), []).append(name)
    parts = [*HEAD, "", "| source | artifacts | fetched |", "|---|---|---|"]
    for source, names in by_source.items():
        automatic = sum(bool(blocks[name].get("sources")) for name in names)
        cells = (f"[{source}](#{_anchor(source)})", str(len(names)), f"{automatic} of {len(names)}")
        parts.append("| " + " | ".join(cells) + " |")
    for source, names in by_source.items():
        parts += ["", *_section(source, {name: blocks[name] for name in names})]
    return "\n".join(parts) + "\n"


def _section(source: str, blocks: dict[str, Block]) -> list[str]:
    """One source: its address, a row per artifact, and each manual step once."""
    parts = [f"## {source}", ""]
    pages = dict.fromkeys(block["homepage"] for block in blocks.values() if block.get("homepage"))
    parts += [*pages, ""] if pages else []
    parts += ["| artifact | what | files | fetched by itself | terms |", "|---|---|---|---|---|"]
    for name, block in blocks.items():
        fetched = "yes" if block.get("sources") else "by hand"
        title, licence = block.get("title", ""), block.get("licence", "")
        cells = (f"`{name}`", title, _files(block), fetched, licence)
        parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    steps = sorted((_by_hand(block), name) for name, block in blocks.items())
    for text, group in groupby(steps, key=lambda step: step[0]):
        names = [name for _, name in group]
        if text:
            shown = ", ".join(f"`{name}`" for name in names)
            which = "" if len(names) == len(blocks) else f" ({shown})"
            parts += ["", f"By hand{which}:", "", "```text", text, "```"]
    return parts


def _source(block: Block) -> str:
    """Repository, record or host that a person would look at."""
    if page := block.get("homepage"):
        parts = urlsplit(page)
        path = [part for part in parts.path.split("/") if part]
        if parts.netloc in ("github.com", "huggingface.co"):
            return "/".join(path[1:3] if path[0] in ("datasets", "spaces") else path[:2])
        return parts.netloc.removeprefix("www.")
    for source in block.get("sources", []):
        if "url" in source:
            return urlsplit(source["url"]).netloc.removeprefix("www.")
        return source.get("repo") or f"Zenodo {source['record']}"
    return "Your own files"


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = (c for c in heading.lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def _files(block: Block) -> str:
    """Names and sizes of what the artifact must hold."""
    parts = []
    for want in block.get("wants", []):
        count = f" ({want['count']})" if want.get("count") else ""
        parts.append(f"{want['what']}{count}: `{want['any'][0]}`")
    for file in block.get("files", []):
        size = file.get("size") or file.get("about")
        parts.append(f"`{file['name']}`" + (f" {readable(size)}" if size else ""))
    return "; ".join(parts)


def _by_hand(block: Block) -> str:
    """The manual step, with FILE in place of the one file that it names."""
    text = str(block.get("by_hand") or "").strip()
    names = [file["name"] for file in block.get("files", [])]
    return text.replace(names[0], "FILE") if len(names) == 1 else text
