"""Embeddings of videos and texts, and what ViCLIP's evaluation prints of them."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parents[1] / "golden/viclip"


def misc() -> dict[str, np.ndarray]:
    return load_file(GOLDEN / "misc.safetensors")


def expected() -> dict[str, dict[str, float]]:
    return json.loads((GOLDEN / "misc.json").read_text())["metrics"]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def zero_shot(misc: dict[str, np.ndarray]) -> np.ndarray:
    prompts = unit(misc["zs.text_feats_raw"].astype(np.float64))
    return unit(misc["zs.video_feats_raw"].astype(np.float64)) @ prompts.mean(1).T
