"""What the demo must have shown; run by .ci/run after `make demo`."""

import json
import sys
from pathlib import Path


def problems(result: dict, page: str) -> list[str]:
    """Sentences about what is not as it should be."""
    found = []
    accuracy = result["metrics"]["accuracy"]["value"]
    controls = {n: c["value"] for n, c in result["controls"].items()}
    if accuracy < 70:
        found.append(f"accuracy {accuracy} is below 70")
    if controls["shuffled_videos"] > 35:
        found.append(f"shuffled videos reach {controls['shuffled_videos']}, above 35")
    if controls["untrained"] > 40:
        found.append(f"an untrained model reaches {controls['untrained']}, above 40")
    for name, label in (("reversed_time", "time"), ("swapped_channels", "colour")):
        probes = {probe["label"]: probe for probe in result["controls"][name]["probes"]}
        if probes[label]["drop"] < 20:
            found.append(f"{name} costs the {label} questions {probes[label]['drop']}, under 20")
    bad = {entry["group"] for entry in result["failed"] if entry["status"] == "undecodable"}
    if len(bad) != 2:
        found.append(f"{len(bad)} undecodable videos instead of 2")
    if "toy_viclip" not in page:
        found.append("the report does not name toy_viclip")
    return found


if __name__ == "__main__":
    lines = problems(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).read_text())
    print("\n".join(lines) or "the demo shows what it should")
    sys.exit(bool(lines))
