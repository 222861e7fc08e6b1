# SPDX-License-Identifier: AGPL-3.0-or-later
"""A real checkpoint: the railway YOLOv8n pruned 2.0x, then loaded, run and exported by stock Ultralytics without us.

    python benchmarks/railway.py --out runs/railway

The stock environment is a virtual environment with a copy of the installed Ultralytics' own files; everything else it
takes from the running environment.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from fetch import fetch_railway, machine, markdown

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.marks import NOT_FROM_YAML
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.utils import LOGGER

EXPORT_PACKAGES = ("onnx", "onnxslim", "onnxruntime", "ml_dtypes", "flatbuffers", "protobuf", "colorama")


def stock_environment(folder: Path) -> Path:
    """Make a virtual environment with stock Ultralytics and return its interpreter.

    Args:
        folder (Path): Where it goes; replaced if it exists.

    Returns:
        (Path): The interpreter.
    """
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip())
    stock = distribution("ultralytics")
    for file in stock.files:  # Ultralytics' own record: what we put beside its files is not in it
        if ".." not in file.parts and "__pycache__" not in file.parts:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(stock.locate_file(file), site / file)
    # path entries alone: .pth files in them, our start-up hook and editable installs among them, stay out
    parents = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (site / "parents.pth").write_text("\n".join([*parents, str(export_packages(folder / "export"))]), encoding="utf-8")
    return python


def export_packages(folder: Path) -> Path:
    """Install what ONNX export needs and the running environment lacks, apart from it."""
    missing = [name for name in EXPORT_PACKAGES if not is_installed(name)]
    if missing:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*pip, *missing], check=True)
    return folder


def is_installed(name: str) -> bool:
    """Return True for a distribution that the running environment has."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def check_in_stock(python: Path, weights: Path, safe_load: str) -> dict:
    """Run `stock_check.py` on a checkpoint and return what it found."""
    result = weights.with_name(f"stock-safe-load-{safe_load}.json")
    env = {**os.environ, "ULTRALYTICS_SAFE_LOAD": safe_load, "YOLO_AUTOINSTALL": "false"}
    env["YOLO_CONFIG_DIR"] = str(weights.parent)  # an Ultralytics that has us may have left a settings file elsewhere
    script = Path(__file__).with_name("stock_check.py")
    # -I: no PYTHONPATH and no working directory, through which our files could come in
    command = [python, "-I", script, weights, result, NOT_FROM_YAML]
    subprocess.run([str(part) for part in command], check=True, cwd=weights.parent, env=env)
    return json.loads(result.read_text(encoding="utf-8"))


def table(found: dict[str, dict]) -> str:
    """Return what stock Ultralytics found as a Markdown table."""
    headings = ["ULTRALYTICS_SAFE_LOAD", "parameters", "found in bus.jpg", "largest score"]
    headings += ["ONNX: boxes", "ONNX: scores", "train"]
    rows = []
    for safe_load, f in found.items():
        cells = [safe_load, f"{f['parameters']:,}", ", ".join(f["found"]) or "nothing", f"{f['largest score']:.3f}"]
        cells += [f"{f['boxes']:.1e}", f"{f['scores']:.1e}", f["train"]]
        rows.append(cells)
    return markdown(headings, rows)


def main() -> None:
    """Prune the railway checkpoint and hand it to stock Ultralytics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint, environment and results")
    parser.add_argument("--speed-up", type=float, default=2.0)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)

    dense = fetch_railway(out)
    pruned, record = prune_model(load_checkpoint(dense)[0], Budget(args.speed_up), prune_method="lamp")
    weights = out / "prune.pt"
    save_pruned(weights, pruned, record, {"task": "detect", "imgsz": 640})
    python = stock_environment(out / "stock")
    found = {safe_load: check_in_stock(python, weights, safe_load) for safe_load in ("0", "1")}
    summary = {k: getattr(record, k) for k in ("target", "reached", "gflops", "parameters")}
    (out / "results.json").write_text(json.dumps({**machine(), **summary, "stock": found}, indent=2), encoding="utf-8")
    LOGGER.info(f"\n{json.dumps(machine())}\n{json.dumps(summary)}\n\n{table(found)}")
    worst = max(f[part] for f in found.values() for part in ("boxes", "scores"))
    if worst > 1e-3:
        raise SystemExit(f"ONNX Runtime and PyTorch differ by {worst:.1e} of the largest output")


if __name__ == "__main__":
    main()
