# SPDX-License-Identifier: AGPL-3.0-or-later
"""What stock Ultralytics makes of a pruned checkpoint; `railway.py` runs this in an environment without us.

python -I stock_check.py prune.pt result.json "the sentence that training must fail with"
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch

import ultralytics.cfg
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ASSETS

IMGSZ = 640


def check_stock() -> None:
    """Stop if this environment has our package."""
    if "compress" in ultralytics.cfg.MODES or importlib.util.find_spec("ultralytics.engine.pruning"):
        raise RuntimeError(f"'{ultralytics.__file__}' is not a stock Ultralytics")


def predict(weights: Path) -> dict:
    """Return what the model finds in Ultralytics' own photograph of a bus."""
    yolo = YOLO(weights)
    parameters = sum(p.numel() for p in yolo.model.parameters())
    result = yolo.predict(ASSETS / "bus.jpg", imgsz=IMGSZ, verbose=False)[0]
    boxes = result.boxes if result.obb is None else result.obb
    found = [f"{result.names[int(c)]} {p:.2f}" for c, p in zip(boxes.cls, boxes.conf)]
    return {"parameters": parameters, "found": found}


def export(weights: Path) -> dict:
    """Export to ONNX and return how far ONNX Runtime's raw outputs are from PyTorch's, in terms of the largest one."""
    image = LetterBox((IMGSZ, IMGSZ))(image=cv2.imread(str(ASSETS / "bus.jpg")))[..., ::-1].transpose(2, 0, 1)
    image = np.ascontiguousarray(image, dtype=np.float32)[None] / 255
    with torch.no_grad():
        expected = YOLO(weights).model.float().eval()(torch.from_numpy(image))[0].numpy()
    session = onnxruntime.InferenceSession(YOLO(weights).export(format="onnx", imgsz=IMGSZ, verbose=False))
    output = session.run(None, {session.get_inputs()[0].name: image})[0]
    parts = {"boxes": slice(0, 4), "scores": slice(4, None)}
    differences = {name: largest_difference(output[:, part], expected[:, part]) for name, part in parts.items()}
    return {**differences, "largest score": float(expected[:, 4:].max())}


def largest_difference(output: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest absolute difference over the largest absolute value."""
    if output.shape != expected.shape:
        raise ValueError(f"shapes differ: {output.shape} and {expected.shape}")
    return float(np.abs(output - expected).max() / np.abs(expected).max())


def train(weights: Path, sentence: str) -> str:
    """Return how training fails; here a pruned model cannot be built, and must not come back dense."""
    root = weights.parent / "bus"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    shutil.copy(ASSETS / "bus.jpg", root / "images")
    (root / "labels" / "bus.txt").write_text("0 0.5 0.45 0.9 0.45\n", encoding="utf-8")
    model = YOLO(weights).model
    data = {"path": str(root), "train": "images", "val": "images", "names": [*model.names.values()]}
    data |= {"kpt_shape": list(model.kpt_shape)} if hasattr(model, "kpt_shape") else {}
    (root / "bus.yaml").write_text(json.dumps(data), encoding="utf-8")  # which is YAML, too
    try:
        YOLO(weights).train(data=str(root / "bus.yaml"), epochs=1, imgsz=64, device="cpu", project=str(root / "runs"))
    except Exception as error:
        if sentence in str(error):
            return f"{type(error).__name__}: {error}"
        raise
    raise RuntimeError("stock Ultralytics trained the pruned checkpoint")


def main() -> None:
    """Check one checkpoint and write what was found."""
    weights, result, sentence = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    check_stock()
    found = {"ultralytics": ultralytics.__version__, "onnxruntime": onnxruntime.__version__}
    found |= predict(weights) | export(weights) | {"train": train(weights, sentence)}
    result.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
