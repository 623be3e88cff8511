"""Watch a video with MMDuet, or serve the live page: the older name of two commands.

`duet.py --video clip.mp4 --ask "What happens?"` is `vireo predict MODEL --video …`, and
`duet.py --serve` is `vireo serve MODEL`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo.commands import options, predict, serve
from vireo.utils import cli


def main(argv: list[str] | None = None) -> int:
    """Parse the command line; watch one video, or serve the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=serve.MODEL, help="default: %(default)s")
    parser.add_argument("--serve", action="store_true", help="the live page, on 127.0.0.1")
    serve.add_port(parser)
    parser.add_argument("--scores", action="store_true", help="also print every frame's scores")
    options.add_inputs(parser)
    options.add_streaming(parser)
    options.add_weights(parser)
    cli.add_common(parser)
    parser.set_defaults(parser=parser, benchmark=None, json=False)
    args = parser.parse_args(argv)
    return (serve if args.serve else predict).run(args)


if __name__ == "__main__":
    cli.run(main)
