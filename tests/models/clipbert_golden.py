"""What the ClipBERT tests share: the golden files and the small model they were made with."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden/clipbert"
CONFIG = json.loads((GOLDEN / "config.json").read_text())
SIZE, CLIPS, FRAMES = CONFIG["max_img_size"], CONFIG["n_clips"], CONFIG["num_frm"]
_bert, _cnn = CONFIG["bert_config"], CONFIG["resnet"]
ARCH: dict[str, Any] = {
    "hidden_size": _bert["hidden_size"],
    "layers": _bert["num_hidden_layers"],
    "heads": _bert["num_attention_heads"],
    "intermediate_size": _bert["intermediate_size"],
    "vocab_size": _bert["vocab_size"],
    "positions": _bert["max_position_embeddings"],
    "rows": _bert["max_grid_row_position_embeddings"],
    "columns": _bert["max_grid_col_position_embeddings"],
    "stem": _cnn["stem_out"],
    "res2": _cnn["res2_out"],
    "width": _cnn["width_per_group"],
    "labels": CONFIG["num_labels"],
}
BLOCK: dict[str, Any] = {
    "arch": ARCH,
    "mean": [0.485, 0.456, 0.406],
    "std": [1 / 255] * 3,
    "size": SIZE,
    "vocab": str(GOLDEN / "sqa3d/vocab.txt"),
    "answers": str(GOLDEN / "sqa3d/sqa_task/answer_dict.json"),
}


def inputs() -> dict[str, Tensor]:
    return load_file(GOLDEN / "inputs.safetensors")


def outputs() -> dict[str, Tensor]:
    return load_file(GOLDEN / "outputs.safetensors")
