"""ScanNet .sens files: what is inside, and its pictures, depth maps, poses and calibration.

Examples:  python scripts/sens.py info scene0000_00.sens
           python scripts/sens.py export scene0000_00.sens OUT --what color pose --every 20
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo.media import sens_export
from vireo.media.sens import Sens
from vireo.utils import cli
from vireo.utils.cli import log


def main() -> int:
    """Parse the command line; print or export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="print header, frames, lost poses and IMU records")
    info.add_argument("file", type=Path)
    info.add_argument("--verify", action="store_true", help="also decode every picture and depth")
    out = commands.add_parser("export", help="write frames into a folder")
    out.add_argument("file", type=Path)
    out.add_argument("out", type=Path)
    out.add_argument("--what", nargs="+", default=sens_export.PARTS, choices=sens_export.PARTS)
    out.add_argument("--every", type=int, default=1, metavar="N", help="every N-th frame")
    out.add_argument(
        "--layout",
        choices=sens_export.LAYOUTS,
        default="cpp",
        help="file names of ScanNet's C++ or Python reader",
    )
    out.add_argument("--depth", choices=("pgm", "png"), help="default: as that reader")
    args = parser.parse_args()
    cli.setup()
    if args.command == "info":
        sys.stdout.write(describe(args.file, args.verify))
        return 0
    done = sens_export.export(args.file, args.out, args.what, args.every, args.layout, args.depth)
    log.info("%s: %d frames in %s, %d without pose", args.file, done.frames, args.out, done.lost)
    return 0


def describe(path: Path, verify: bool = False) -> str:
    """Text about a file: ScanNet's `_info.txt`, compression, times, lost poses, IMU records."""
    with Sens(path) as sens:
        head = sens.header
        lost, last, color, depth = 0, 0, 0, 0
        for frame in sens.frames():
            lost += frame.lost
            color, depth = color + frame.color_bytes, depth + frame.depth_bytes
            last = frame.time_color
            if verify:
                frame.color()
                if head.depth_kind != "occi_ushort":
                    frame.depth()
        lines = [
            f"colour: {head.color_kind}, {color} bytes",
            f"depth: {head.depth_kind}, {depth} bytes",
            f"last colour time: {last / 1e6:.6f} s",
            f"frames without pose (tracking lost): {lost}",
            f"IMU records: {len(sens.imu())}",
            *(["every picture and depth map decodes"] if verify else []),
        ]
        return sens_export.info_text(head) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main)
