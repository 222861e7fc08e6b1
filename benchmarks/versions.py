# SPDX-License-Identifier: AGPL-3.0-or-later
"""Pruned checkpoints in other releases of stock Ultralytics: equal outputs, or from which release on.

    python benchmarks/versions.py --out runs/versions
    python benchmarks/versions.py --out runs/versions --ultralytics 8.3.0 8.4.0 --only yolo11n yolo12n
    python benchmarks/versions.py --out runs/versions --weights runs/detect/mine-finetune/weights/best.pt

Models are built from Ultralytics' YAMLs, given statistics that fit their input, and pruned to 2x. Each release is
downloaded, unpacked, and put in front of the running environment's packages, without this package's start-up hook.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from fetch import machine, markdown

from ultralytics import RTDETR, YOLO
from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.checkpoint.record import Record
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.surgery.oracle import enliven
from ultralytics.utils import LOGGER, TQDM
from ultralytics.utils.checks import parse_version

MODELS = ["yolov8n", "yolov8s", "yolo11n", "yolo12n", "yolov9t", "yolov10n", "yolo26n"]
RELEASES = ["8.1.47", "8.2.103", "8.3.0", "8.3.253", "8.4.0", "8.4.50", "8.4.190"]
TOLERANCE = 1e-4  # of the largest output
NEEDED = ["tqdm", "pandas", "python-dateutil", "pytz", "tzdata", "six", "seaborn", "scipy", "py-cpuinfo", "thop"]
LOAD_AND_RUN = """
import json, sys
folder, image, out, *files = json.loads(sys.argv[1])
sys.path[:] = [folder, *json.loads(sys.argv[2])]
import numpy as np, torch, ultralytics
from ultralytics import YOLO
assert ultralytics.__file__.startswith(folder) and "compress" not in ultralytics.cfg.MODES
x, found = torch.from_numpy(np.load(image)), {}
for file in files:
    try:
        np.save(f"{out}.{files.index(file)}.npy", first_output(YOLO(file).model, x).numpy())
    except Exception as error:
        found[file] = f"{type(error).__name__}: {error}"
open(out, "w", encoding="utf-8").write(json.dumps(found))
"""


def first_output(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Return the predictions, of the one-to-one head if there is one, which recent releases use on demand."""
    head = model.float().eval().model[-1]
    if getattr(head, "one2one_cv2", None) is not None and getattr(getattr(type(head), "end2end", None), "fset", None):
        head.end2end = True
    with torch.no_grad():
        output = model(image)
    if type(head).__name__ == "RTDETRDecoder":  # the raw ones, since releases arrange the others differently
        output = output[1]
    while isinstance(output, (list, tuple)):
        output = output[0]
    return output


def prune(name: str, file: Path) -> None:
    """Write a pruned checkpoint."""
    yolo = (RTDETR if "rtdetr" in name else YOLO)(f"{name}.yaml")
    dense = enliven(yolo.model, yolo.model.predict)
    pruned, record = prune_model(dense, Budget(speed_up=2.0), prune_method="lamp")
    save_pruned(file, pruned, record, {"task": yolo.task, "imgsz": 192})


def expect(file: Path, image: torch.Tensor) -> tuple[np.ndarray, str]:
    """Return the output of a pruned checkpoint here, and the release that its record says it needs."""
    model, _ = load_checkpoint(file)
    return first_output(model, image).numpy(), Record.of(model).needs_ultralytics


def fetch(release: str, out: Path) -> Path:
    """Return a folder with a release of Ultralytics and nothing else."""
    folder = out / f"ultralytics-{release}"
    if not folder.exists():
        if not list(out.glob(f"ultralytics-{release}-*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(out)]
            subprocess.run([*pip, f"ultralytics=={release}"], check=True)
        with zipfile.ZipFile(next(out.glob(f"ultralytics-{release}-*.whl"))) as archive:
            archive.extractall(folder)
    return folder


def fetch_needed(out: Path) -> Path:
    """Return a folder with what older releases import and the newest does not."""
    folder = out / "needed"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*pip, *NEEDED], check=True)
    return folder


def outcome(error: str | None, output: Path, expected: np.ndarray, needed: str, release: str) -> str:
    """Return one cell of the table: 'equal', what the record says is needed, how far off, or why it failed."""
    if parse_version(release) < parse_version(needed):
        return f"needs {needed}"
    if error:
        return error.split(" on <module")[0].split("\n")[0]
    found = np.load(output)
    if found.shape != expected.shape:
        return f"shape {found.shape} instead of {expected.shape}"
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    return "equal" if difference < TOLERANCE else f"differs by {difference:.0e}"


def main() -> None:
    """Prune every model, run it in every release, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for releases, checkpoints and results")
    parser.add_argument("--weights", nargs="+", type=Path, default=[], help="pruned checkpoints, instead of models")
    parser.add_argument("--only", nargs="+", default=MODELS, help="names of model YAMLs")
    parser.add_argument("--ultralytics", nargs="+", default=RELEASES, help="releases")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    image = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(1))
    np.save(out / "image.npy", image.numpy())
    files = {str(file): file.resolve() for file in args.weights}
    if not files:
        files = {name: out / f"{name}-pruned.pt" for name in args.only}
        for name, file in TQDM(files.items(), desc="Models"):
            prune(name, file)
    expected = {name: expect(file, image) for name, file in files.items()}
    results: dict[str, dict[str, str]] = {name: {} for name in files}
    # the oldest call torch.load without weights_only, which is true by default in recent releases of torch
    environ = {**os.environ, "YOLO_CONFIG_DIR": str(out), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    for release in TQDM(args.ultralytics, desc="Releases"):
        words = [str(word) for word in (fetch(release, out), out / "image.npy", out / "found.json", *files.values())]
        paths = [*sys.path[1:], str(fetch_needed(out))]  # without the folder of this script
        code = f"from __future__ import annotations\n{inspect.getsource(first_output)}{LOAD_AND_RUN}"
        command = [sys.executable, "-S", "-c", code, json.dumps(words), json.dumps(paths)]
        subprocess.run(command, check=True, cwd=out, env=environ, stdout=subprocess.DEVNULL)
        found = json.loads((out / "found.json").read_text(encoding="utf-8"))
        for i, (name, file) in enumerate(files.items()):
            output = out / f"found.json.{i}.npy"
            results[name][release] = outcome(found.get(str(file)), output, *expected[name], release)
    (out / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    rows = [[name, *row.values()] for name, row in results.items()]
    table = markdown(["pruned model", *args.ultralytics], rows)
    (out / "results.md").write_text(f"{table}\n", encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}\n\n{table}")


if __name__ == "__main__":
    main()
