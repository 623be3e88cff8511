"""A CLIP file -> its vision and its text tower as two files (rule clip_towers).

These are the files that ViCLIP's authors begin training with and average with, under their names;
this workflow reads CLIP files as they are and needs neither. Takes OpenAI's TorchScript archive
(whose code is never run), Hugging Face's and open_clip's files.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.nn import clip_weights
from vireo.utils import cli
from vireo.utils.cli import log
from vireo.utils.files import atomic


def main() -> int:
    """Parse the command line and write the towers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path, help="CLIP file, or the receipt (.json) of an artifact")
    parser.add_argument("--vision", required=True, type=Path, metavar="FILE")
    parser.add_argument("--text", required=True, type=Path, metavar="FILE")
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    source = receipt.only_file(args.clip) if args.clip.suffix == ".json" else args.clip
    for tower, tensors in clip_weights.towers(source).items():
        if not tensors:
            raise VireoError(f"{source} has no {tower} tower: take a whole CLIP file")
        path = getattr(args, tower)
        with atomic(path, suffix=".pth") as tmp:
            torch.save(tensors, tmp)
        count = sum(tensor.numel() for tensor in tensors.values())
        log.info("%s: %d tensors, %d numbers", path, len(tensors), count)
    return 0


if __name__ == "__main__":
    cli.run(main)
