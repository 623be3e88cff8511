"""Look into ScanNet .sens files, and export pictures, depth maps, poses and calibration."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vireo.commands import options
from vireo.utils import cli
from vireo.utils.cli import log

EXAMPLES = """\
  vireo sens info scene0000_00.sens
  vireo sens export scene0000_00.sens OUT --what color pose --every 20
"""
# Of vireo/media/sens_export.py, whose imports no help text should wait for.
PARTS = ("color", "depth", "pose", "info")
LAYOUTS = ("cpp", "python")
SHOWN = 20  # damaged parts that are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`info` and `export`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    info = commands.add_parser(
        "info", help="print header, frames, lost poses and IMU records", description=_info.__doc__
    )
    info.add_argument("file", metavar="FILE", type=Path)
    info.add_argument("--verify", action="store_true", help="also decode every picture and depth")
    info.add_argument("--json", action="store_true", help="the facts as one JSON object")
    info.set_defaults(action=_info)
    out = commands.add_parser(
        "export", help="write frames into a folder", description=_export.__doc__
    )
    out.add_argument("file", metavar="FILE", type=Path)
    out.add_argument("out", metavar="FOLDER", type=Path)
    out.add_argument(
        "--what",
        nargs="+",
        default=PARTS,
        choices=PARTS,
        metavar="PART",
        help=f"parts to write (default: {' '.join(PARTS)})",
    )
    out.add_argument(
        "--every",
        type=options.count,
        default=1,
        metavar="N",
        help="every N-th frame (default: %(default)s)",
    )
    out.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="cpp",
        help="file names of ScanNet's C++ or Python reader (default: %(default)s)",
    )
    out.add_argument("--depth", choices=("pgm", "png"), help="default: as that reader")
    out.set_defaults(action=_export)


def run(args: argparse.Namespace) -> int:
    """Print or export."""
    cli.setup()
    action = args.action
    return int(action(args))


def _info(args: argparse.Namespace) -> int:
    """Print what a .sens file holds: ScanNet's `_info.txt`, times, lost poses, IMU records."""
    from vireo.media import sens_export

    header, facts = facts_of(args.file, args.verify)
    if args.json:
        fields = dict(
            line.split(" = ", 1) for line in sens_export.info_text(header).splitlines() if line
        )
        print(json.dumps({"header": fields, **facts}, indent=1))
        return 1 if facts.get("damaged") else 0
    lines = [
        f"colour: {facts['color_kind']}, {facts['color_bytes']} bytes",
        f"depth: {facts['depth_kind']}, {facts['depth_bytes']} bytes",
        f"last colour time: {facts['last_color_s']:.6f} s",
        f"frames without pose (tracking lost): {facts['frames_without_pose']}",
        f"IMU records: {facts['imu_records']}",
    ]
    if args.verify and not facts["damaged"]:
        lines.append("every picture and depth map decodes")
    elif args.verify:
        lines.append(f"damaged pictures and depth maps: {len(facts['damaged'])}")
        lines += facts["damaged"][:SHOWN]
    sys.stdout.write(sens_export.info_text(header) + "\n".join(lines) + "\n")
    return 1 if facts.get("damaged") else 0


def facts_of(path: Path, verify: bool = False) -> tuple[Any, dict[str, Any]]:
    """Header of a file, and what reading all of its frames finds.

    `verify` decodes them too: `damaged` then says why each picture or depth map does not.
    """
    from vireo.media.sens import Sens, SensError

    damaged: list[str] = []
    with Sens(path) as sens:
        head = sens.header
        lost, last, color, depth = 0, 0, 0, 0
        for frame in sens.frames():
            lost += frame.lost
            color, depth = color + frame.color_bytes, depth + frame.depth_bytes
            last = frame.time_color
            depths = [frame.depth] if head.depth_kind != "occi_ushort" else []
            for part in [frame.color, *depths] if verify else []:
                try:
                    part()
                except SensError as error:
                    damaged.append(str(error))
        return head, {
            "color_kind": head.color_kind,
            "color_bytes": color,
            "depth_kind": head.depth_kind,
            "depth_bytes": depth,
            "last_color_s": last / 1e6,
            "frames_without_pose": lost,
            "imu_records": len(sens.imu()),
            **({"damaged": damaged} if verify else {}),
        }


def _export(args: argparse.Namespace) -> int:
    """Write pictures, depth maps, poses and calibration into a folder."""
    from vireo.media import sens_export

    done = sens_export.export(args.file, args.out, args.what, args.every, args.layout, args.depth)
    log.info("%s: %d frames in %s, %d without pose", args.file, done.frames, args.out, done.lost)
    return 0
