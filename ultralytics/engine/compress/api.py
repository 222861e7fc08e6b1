# SPDX-License-Identifier: AGPL-3.0-or-later
"""The compress mode as one function whose keys an editor completes and `help` names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union

if TYPE_CHECKING:
    from ultralytics.engine.model import Model

PruneMethod = Literal[
    "group_taylor",
    "lamp",
    "l1",
    "random",
    "group_norm",
    "group_hessian",
    "slim",
    "group_slim",
    "group_sl",
    "growing_reg",
]

Counted = Literal["flops", "onnx", "pytorch", "openvino", "ncnn", "mnn", "litert", "params", "size"]
Precision = Literal["fp32", "fp16", "int8"]
RegDecay = Literal["constant", "linear", "step"]
T = TypeVar("T")
Several = Union[T, Sequence[T]]  # what a sweep may vary: each of several values is one of its runs


def compress(
    model: Several[str | Path] | Model,
    *,
    data: Several[str | Path],
    prune_method: Several[PruneMethod] = "group_taylor",
    global_pruning: Several[bool] = True,
    speed_up: Several[float] = 2.0,
    target: Several[float] | None = None,
    max_drop: float | None = None,
    budget: Several[Counted | str] = "flops",
    precision: Several[Precision] = "fp32",
    runner: str | None = None,
    round_to: Several[int] = 8,
    max_sparsity: Several[float] = 1.0,
    iterative_steps: Several[int] = 1,
    prune_batches: Several[int] = 16,
    sensitivity: bool = False,
    sensitivity_drop: Several[float] | None = None,
    recalibrate: Several[bool] = True,
    refit: Several[bool] = False,
    finetune: bool = True,
    distill: Several[bool] = True,
    dense_epochs: Several[int] = 0,
    qat_epochs: int = 0,
    deploy: str | Sequence[str] | None = None,
    int8_drop: float = 0.01,
    sl_epochs: Several[int] = 0,
    sl_hyp: Several[str | Path] | None = None,
    sl_model: Several[str | Path] | None = None,
    reg: Several[float] | None = None,
    reg_decay: Several[float] = 0.01,
    reg_decay_type: Several[RegDecay] = "linear",
    reg_decay_step: Several[int] = 10,
    delta_reg: Several[float] | None = None,
    use_ray: bool = False,
    gpu_per_trial: float | None = None,
    max_failures: int = 2,
    storage_path: str | Path | None = None,
    grace_period: int | None = None,
    **training: Any,
) -> dict[str, Any]:
    """Prune a model to `speed_up` and fine-tune it: `YOLO(model).compress(...)` with every key spelled out.

    Several values of a key make a sweep: one run for every combination; so do several models, data sets and seeds.

    Args:
        model (str | Path | Model): Trained .pt file, .yaml file (which is trained first), several of them, or a `YOLO`
            object, which holds the fine-tuned model afterwards, except after a sweep; of a search the one that it has
            found.
        data (str | Path): Data set of the fine-tuning.
        prune_method (str): How channels are ranked.
        global_pruning (bool): Rank the channels of all layers together instead of each layer by itself.
        speed_up (float): Target: cost of the dense model over cost of the pruned one, above 1.
        target (float, optional): The cost itself instead of `speed_up`, in GFLOPs, millions of parameters, megabytes or
            milliseconds.
        max_drop (float, optional): Instead of a target, the accuracy to keep: find the fastest model that loses no more
            than this many points of the main metric, on a scale from 0 to 100.
        budget (str): What the target counts: FLOPs, parameters, bytes of the exported weights, or milliseconds of one
            image, measured in PyTorch on `device` or in another runtime on the CPU; or the path of the answer.json that
            another device has written.
        precision (str): How weights are stored with budget='size', or in what a runtime computes.
        runner (str, optional): Command in front of a shell's on the device that is measured, i.e. 'ssh pi@board'.
        round_to (int): Keep a multiple of this many channels per layer.
        max_sparsity (float): Largest share of a layer's channels that may be removed, in (0, 1].
        iterative_steps (int): Cuts on the way to the target, with new gradients before each.
        prune_batches (int): Training batches for gradients and batch norm statistics.
        sensitivity (bool): Before pruning, validate with each layer pruned alone.
        sensitivity_drop (float, optional): Largest drop of the main metric that a layer may cause alone.
        recalibrate (bool): Measure the batch norm statistics anew after the cut.
        refit (bool): After the cut, fit the convolutions to what they put out in the dense model.
        finetune (bool): Fine-tune after the cut; without it the run ends there.
        distill (bool): Fine-tune with the dense model as the teacher; throughout, or less and less if its own training
            had ended while it was still rising.
        dense_epochs (int): Epochs for which the dense model is trained on before it is pruned.
        qat_epochs (int): Epochs of a quantization-aware training after the fine-tuning, which stays float beside it.
        deploy (str | Sequence[str], optional): Formats to export to after the fine-tuning, validate and time, i.e.
            'onnx', 'openvino-int8'.
        int8_drop (float): Largest drop of the main metric that quantisation after training may cause in a file that is
            proposed.
        sl_epochs (int): Epochs of sparsity training, for methods that need one.
        sl_hyp (str | Path, optional): YAML of training keys that hold in the sparsity training alone.
        sl_model (str | Path, optional): Checkpoint of an earlier sparsity training, which replaces it.
        reg (float, optional): Strength of the regulariser, once per optimizer step; by default what its steps need.
        reg_decay (float): Share of `reg` left in the last epoch (linear), or factor of each step (step).
        reg_decay_type (str): Schedule of the strength.
        reg_decay_step (int): Epochs between two decays of a step schedule.
        delta_reg (float, optional): Growth of the strength per optimizer step with growing_reg; by default what its
            steps need.
        use_ray (bool): Run the cells of a sweep, or the tries of `max_drop`, on a Ray cluster.
        gpu_per_trial (float, optional): GPUs of each run on Ray, or its share of one.
        max_failures (int): How often a run on Ray is taken up again that was lost or has failed.
        storage_path (str | Path, optional): Where Ray Tune keeps the state of the sweep, in an object store also the
            folders of its runs.
        grace_period (int, optional): Epochs after which runs on Ray may be stopped that others of the same target leave
            behind.
        **training (Any): Ultralytics' training keys, i.e. epochs, imgsz, batch, device, project, name, resume.

    Returns:
        (dict): The report, as in report.json, with a row per exported file, its path as 'file', in
            `report['deploy']['rows']`; of all targets for a sweep or a search.

    Raises:
        SyntaxError: If a key is unknown.
        TypeError: If a value is of the wrong type.
        ValueError: If a value is invalid, or the target cannot be reached.

    Examples:
        >>> from ultralytics.engine.compress import compress
        >>> report = compress("best.pt", data="coco8.yaml", speed_up=2.0, epochs=100)
    """
    given = locals()
    defaults = {name: p.default for name, p in inspect.signature(compress).parameters.items() if name in given}
    keys = {k: given[k] for k, default in defaults.items() if k not in {"model", "training"} and given[k] != default}
    if "cfg" in training:
        raise ValueError(
            f"'cfg={training['cfg']}' is not an argument of compress(), whose own keys would override the file. Use "
            "YOLO(model).compress(cfg=...) instead."
        )

    from ultralytics import YOLO
    from ultralytics.cfg.compress.activation import activate
    from ultralytics.engine.compress.checks.models import is_yaml, load_named
    from ultralytics.engine.compress.mode import compress_model, named_model
    from ultralytics.engine.model import Model

    activate()  # a drop-in copy has no start-up hook
    if isinstance(model, (str, Path)):
        if not is_yaml(model := named_model(model)):
            load_named("model", model)  # which says more of what is no model than YOLO does
        model = YOLO(model)
    elif isinstance(model, Sequence):
        if not model:
            raise ValueError("'model=[]' is an invalid value. Name one model or more.")
        if objects := [one for one in model if not isinstance(one, (str, Path))]:
            raise TypeError(f"'model' has a {type(objects[0]).__name__} among several. Name each by its file.")
        training["model"] = list(model)
        model = YOLO(model[0])
    elif not isinstance(model, Model):
        raise TypeError(
            f"'model={model}' is of invalid type {type(model).__name__}. 'model' must be a trained .pt file, a .yaml "
            "file, several of them, or a YOLO object."
        )
    return compress_model(model, **keys, **training)


def method_signature() -> inspect.Signature:
    """Return the signature of `compress` as a method of a `YOLO` object, where the data set has a default too."""
    model, data, *keys = inspect.signature(compress).parameters.values()
    compressor = inspect.Parameter("compressor", model.kind, default=None, annotation="type[Compressor] | None")
    data = data.replace(default=None, annotation="str | Path | None")
    return inspect.Signature([model.replace(name="self", annotation=model.empty), compressor, data, *keys])
