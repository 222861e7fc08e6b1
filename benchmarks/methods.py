# SPDX-License-Identifier: AGPL-3.0-or-later
"""The ten methods side by side on the shapes set: straight after the cut and after the same fine-tuning.

    python benchmarks/methods.py --out runs/methods --seeds 0 1

For each seed a dense YOLOv8n is trained with the settings that `compress.py` ships, then pruned by every method. Those
with a sparsity training get one of --sl-epochs, with the strengths below; at 1.5x they are also cut without it, which
shows what it does. Results are written after each training, and a second run of the command goes on behind them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from experiment import AS_CUT, Experiment, settings_of, spread
from fetch import machine, markdown

from ultralytics.cfg.compress.compat.checkpoints import load_checkpoint
from ultralytics.engine.compress.checks.sparsity import sl_hyperparameters
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.checkpoint.pruned import save_pruned
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.ranking.methods import METHODS
from ultralytics.models.yolo.detect.compress import DetectionSparsifier
from ultralytics.utils import LOGGER

STRENGTHS: dict[str, dict[str, float]] = {  # found on seed 0 among a few values; for 625 optimizer steps
    "slim": {"reg": 0.04, "reg_decay": 0.05},
    "group_slim": {"reg": 0.04, "reg_decay": 0.05},
    "group_sl": {"reg": 0.015, "reg_decay": 0.01},
    "growing_reg": {"reg": 0.0005, "delta_reg": 0.001},
}
PROOF = 1.5  # speed-up at which a sparsity training is compared with none
TARGETS = (2.0, 3.0)


class Methods(Experiment):
    """Sparsity trainings and cuts on top of what every experiment has."""

    def sparsify(self, method: str, dense: str, seed: int, speed_up: float, sl_epochs: int) -> str:
        """Return the checkpoint of a sparsity training; of the targets only growing_reg takes notice."""
        targeted = METHODS[method].trains_towards_target
        name = f"sparse-{method}{f'-{speed_up}' if targeted else ''}-seed{seed}"
        keys = {"model": dense, "name": name, "epochs": sl_epochs, "prune_method": method, "speed_up": speed_up}

        def run() -> dict[str, Any]:
            overrides = {**self.settings, **sl_hyperparameters(None), **STRENGTHS[method], **keys, "seed": seed}
            trainer = DetectionSparsifier(overrides=overrides)
            trainer.train()
            return {"weights": str(trainer.best), **self.validate(trainer.best)}

        return self.once(name, run)["weights"]

    def cut(self, name: str, method: str, weights: str, speed_up: float) -> dict[str, Any]:
        """Return the metrics straight after the cut."""

        def run() -> dict[str, Any]:
            pruned, record = prune_model(load_checkpoint(weights)[0], Budget(speed_up), prune_method=method)
            file = self.out / f"{name}.pt"
            save_pruned(file, pruned, record, self.settings)
            return self.validate(file)

        return self.once(name, run)


def measure(experiment: Methods, methods: list[str], seed: int, sl_epochs: int) -> None:
    """Train, prune and fine-tune by some methods for one seed."""
    dense = experiment.once(f"dense-seed{seed}", lambda: experiment.train(f"dense-seed{seed}", "yolov8n.yaml", seed))
    for method in with_strength(methods):
        sparse = experiment.sparsify(method, dense["weights"], seed, PROOF, sl_epochs)
        for kind, weights in (("without", dense["weights"]), ("with", sparse)):
            experiment.cut(f"proof-{method}-{kind}-seed{seed}", method, weights, PROOF)
    for speed_up in TARGETS:
        for method in methods:
            keys: dict[str, Any] = {"prune_method": method, "speed_up": speed_up}
            if METHODS[method].regulariser:
                keys["sl_model"] = experiment.sparsify(method, dense["weights"], seed, speed_up, sl_epochs)
            name = f"{method}-{speed_up}-seed{seed}"
            experiment.once(name, lambda: experiment.prune_and_finetune(name, dense["weights"], seed, **keys))


def with_strength(methods: list[str]) -> list[str]:
    """Return those methods that have a sparsity training."""
    return [method for method in methods if method in STRENGTHS]


def table(results: dict[str, Any], methods: list[str], seeds: list[int]) -> str:
    """Return the results as Markdown tables: mean and range over the seeds."""
    runs = results["runs"]

    def over_seeds(name: str, *path: str) -> str:
        values = [runs[f"{name}-seed{seed}"] for seed in seeds]
        for key in (*path, "mAP50-95"):
            values = [value[key] for value in values]
        return spread(values)

    heads = [f"{speed_up}x, {when}" for speed_up in TARGETS for when in ("after the cut", "fine-tuned")]
    rows = []
    for method in methods:
        cells = [over_seeds(f"{method}-{t}", when) for t in TARGETS for when in ("pruned", "fine-tuned")]
        seconds = [runs[f"{method}-{t}-seed{seed}"]["prune_seconds"] for t in TARGETS for seed in seeds]
        rows.append([f"`{method}`", *cells, spread(seconds)])
    proofs = [
        [f"`{method}`", *(over_seeds(f"proof-{method}-{kind}") for kind in ("without", "with"))]
        for method in with_strength(methods)
    ]
    tables = [
        markdown(["method", *heads, "pruning (s)"], rows),
        markdown(["method", f"{PROOF}x, no sparsity training", f"{PROOF}x, with"], proofs),
    ]
    return "\n\n".join([f"Dense: mAP50-95 {over_seeds('dense')}", *tables])


def main() -> None:
    """Measure every seed, and write results.json and results.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=25, help="epochs of the dense training and of every fine-tuning")
    parser.add_argument("--sl-epochs", type=int, default=25, help="epochs of every sparsity training")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    settings = {**settings_of("shapes", out, args.device), "epochs": args.epochs, "workers": 2}
    settings |= AS_CUT  # the dense model has not converged
    about = {**machine(), "settings": settings, "strengths": STRENGTHS, "sl_epochs": args.sl_epochs}
    experiment = Methods(out, settings, about)
    for seed in args.seeds:
        measure(experiment, args.methods, seed, args.sl_epochs)
    tables = table(experiment.results, args.methods, args.seeds)
    (out / "results.md").write_text(f"{tables}\n", encoding="utf-8")
    LOGGER.info(f"{json.dumps(about)}\n\n{tables}")


if __name__ == "__main__":
    main()
