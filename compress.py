# SPDX-License-Identifier: AGPL-3.0-or-later
"""Prune a trained detection model and fine-tune it: edit the `param_dict` below and run `python compress.py`."""

from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune


def compress(param_dict):
    """Prune `param_dict['model']` to `param_dict['speed_up']`.

    Args:
        param_dict (dict): Keys of training and pruning.

    Returns:
        (str): Path of the pruned weights, <project>/<name>-prune/weights/prune.pt.
    """
    overrides = {**param_dict, "name": f"{param_dict['name']}-prune"}
    return DetectionCompressor(overrides=overrides).compress()


def finetune(param_dict, prune_model_path):
    """Train the pruned weights.

    Args:
        param_dict (dict): Keys of training and pruning.
        prune_model_path (str): What `compress` returned.
    """
    overrides = {**param_dict, "model": prune_model_path, "name": f"{param_dict['name']}-finetune"}
    DetectionFinetune(overrides=overrides).train()


if __name__ == "__main__":
    param_dict = {
        # training ---------------------------------------------------------------------------------------------------
        "model": "yolov8n.yaml",  # your trained best.pt; a .yaml is trained first, for as many epochs
        "data": "shapes.yaml",  # your data set; this one draws itself on first use
        "imgsz": 128,  # what your best.pt was trained with, usually 640
        "epochs": 25,  # of the fine-tuning (and of the base training of a .yaml)
        "batch": 8,
        "nbs": 8,  # an optimizer step per batch: the shapes are only 200 images; leave it out for a larger set
        "lr0": 0.002,
        "mosaic": 0.0,  # would halve shapes that are small already; leave it out for your own data
        "workers": 8,
        "cache": True,
        "optimizer": "AdamW",
        "device": "cpu",  # or "0" for the first GPU
        "close_mosaic": 10,
        "project": "runs/prune",
        "name": "yolov8n-lamp",
        # pruning ----------------------------------------------------------------------------------------------------
        "prune_method": "lamp",  # or group_taylor, the command line's default, and eight others: docs/methods.md
        "global_pruning": True,  # rank the channels of all layers together
        "speed_up": 2.0,  # dense cost over pruned cost
        "budget": "flops",  # or "params", "size", or milliseconds: "onnx" (on the CPU), "pytorch" (on device)
        "round_to": 8,  # channels per layer are a multiple of this
        "max_sparsity": 1.0,  # largest share of a layer's channels that may be removed
        "iterative_steps": 1,
        "recalibrate": True,  # measure the batch norm statistics anew after the cut
        "distill": False,  # 25 epochs make no good teacher; leave it out with a best.pt of your own
        # sparsity training, for slim, group_slim, group_sl and growing_reg (lamp needs none) -------------------------
        "reg": None,  # strength of the regulariser; None for what the training's steps need
        "reg_decay": 0.01,  # what is left of it at the end (linear), or after each step (step)
        "reg_decay_type": "linear",  # constant, linear, step
        "reg_decay_step": 10,  # epochs
        "delta_reg": None,  # growth per optimizer step, growing_reg alone
        "sl_epochs": 0,
        "sl_hyp": None,  # None for ultralytics/cfg/hyp.scratch.sl.yaml, which holds in the sparsity training alone
        "sl_model": None,  # a .pt of an earlier sparsity training, to skip it
    }
    finetune(param_dict, compress(param_dict))
