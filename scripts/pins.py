"""Write the pinned pip packages of envs/*.yaml from requirements.txt, so that they never differ."""

import re
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
PYTHON = (3, 11)

BASE = """av einops huggingface-hub jinja2 jsonschema lmdb matplotlib numpy opencv-python-headless
pandas pillow psutil pyarrow pyyaml requests safetensors scikit-learn tqdm""".split()
TORCH = """accelerate open-clip-torch peft timm torch torchvision transformers""".split()
ENVIRONMENTS = {
    "base": ("everything but inference and training: no torch", BASE),
    "torch": ("inference and training", BASE + TORCH),
}


def pins() -> dict[str, str]:
    """Package -> version for Python 3.11, from requirements.txt."""
    found: dict[str, str] = {}
    for line in (HOME / "requirements.txt").read_text().splitlines():
        match = re.match(r"^([a-z0-9._-]+)==([^ ;\\]+) *(?:; *([^\\]+))?", line)
        if not match:
            continue
        name, version, marker = match.groups()
        if marker and re.search(r"python_full_version >= '3\.1[2-9]", marker):
            continue
        found.setdefault(name, version)
    return found


def render(name: str) -> str:
    """Text of envs/<name>.yaml."""
    what, packages = ENVIRONMENTS[name]
    known = pins()
    missing = [p for p in packages if p not in known]
    if missing:
        sys.exit(f"not in requirements.txt: {', '.join(missing)} (add to pyproject.toml)")
    lines = [
        f"# {what[0].upper()}{what[1:]}. Written by `make requirements`; do not edit.",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python={PYTHON[0]}.{PYTHON[1]}",
        "  - pip",
        "  - pip:",
    ]
    return "\n".join([*lines, *(f"      - {p}=={known[p]}" for p in sorted(packages)), ""])


if __name__ == "__main__":
    for environment in ENVIRONMENTS:
        (HOME / "envs" / f"{environment}.yaml").write_text(render(environment))
