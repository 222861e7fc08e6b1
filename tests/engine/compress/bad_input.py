# SPDX-License-Identifier: AGPL-3.0-or-later
"""The table of wrong input: what is wrong, where it is given, and what the message says."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from ultralytics.cfg.compress.keys import TYPES

NAN, INF = math.nan, math.inf
SLIM = {"prune_method": "slim", "sl_epochs": 1, "distill": False}
GROWING = {**SLIM, "prune_method": "growing_reg"}


class Case(NamedTuple):
    """A run with something wrong.

    Attributes:
        kind (str): What is wrong, for the name of the test.
        entry (str): A key of `ENTRIES`.
        keys (dict): Arguments, beside those of `settings`; '{files}' in a string is the folder of `bad_files`.
        words (tuple): What the message says.
    """

    kind: str
    entry: str
    keys: dict[str, Any]
    words: tuple[str, ...]


def of(key: str, values: list, *words: str, entry: str = "prune", kind: str = "", **others: Any) -> list[Case]:
    """Return a case for each value of one key; messages name the key in quotes unless told otherwise."""
    return [Case(kind or key, entry, {**others, key: value}, (f"'{key}=", *words)) for value in values]


def files(*names: str) -> list[str]:
    """Return the paths of files of `bad_files`."""
    return [f"{{files}}/{name}" for name in names]


WRONG = {  # type of a key of the compress mode: values that it does not take
    float: [NAN, INF, -INF, "abc", "", {}, b"1"],
    int: [1.5, NAN, INF, "8", "", [8], {}, -1],
    bool: [1, 0.0, "yes", "", [], {}],
    str: ["foo", "", 1, 1.5, True, [], {}],
    Path: [1, 1.5, True, [], {}, ""],
    list: [1, 1.5, True, {}, [], "", "foo", ["foo"], [1]],
}
OWN = [case for key, kind in TYPES.items() for case in of(key, WRONG[kind], kind=kind.__name__)]
OPTIONAL = {"sl_hyp", "sl_model", "sensitivity_drop", "deploy", "target", "max_drop", "runner", "gpu_per_trial"}
OPTIONAL |= {"storage_path", "grace_period", "reg", "delta_reg"}
OWN += [case for key in TYPES if key not in OPTIONAL for case in of(key, [None])]
RANGES = [
    *of("speed_up", [1, 1.0, 0.5, 0, -2, "2x", [], [2, 2], [2, 1.0], [2, NAN], [[2]]], entry="yolo"),
    *of("speed_up", [[2, 3]], "sweep"),
    *of("max_sparsity", [0, -0.1, 1.5]),
    *of("iterative_steps", [0, 1000, 10**9]),
    *of("round_to", [0]),
    *of("reg", [-1], **SLIM),
    *of("delta_reg", [-1e-4], **GROWING),
    *of("sensitivity_drop", [-0.1]),
    *of("max_drop", [-0.1, 0.5]),
    *of("max_drop", [0.5], "'speed_up=3'", entry="yolo", speed_up=3, kind="max_drop and speed_up"),
    *of("int8_drop", [-0.1]),
    *of("deploy", ["torchscript-int8", "onnx-int4", "onnx:foo=1", "onnx:batch=2", "onnx:opset", "torchscript,foo"]),
]
STOCK = [
    *of("optimizer", ["foo", "", "Adam W", None, 1, [], {}, True]),
    *of("freeze", ["abc", 1.5, -1, ["a"], [1.5], {}, True, [-1], "", 1000, [100], ["cv2"], ["22.cv2", 99], []]),
    *of("save", [False]),
    *of("imgsz", ["abc", "", 64.5, NAN, 0, -32, [64, 0], ["a"], [], {}, None, True, "[64]"]),
    *of("epochs", [0, -1, 1.5, "a", "", None, [], {}, NAN]),
    *of("batch", [0, -2, "a", "", None, [], {}, NAN, INF, 1.5, True]),
    *of("device", ["foo", "99", 99, "cuda:99", "0,99", {}, 1.5]),
    *of("workers", [-1, "a", 1.5, None]),
    *of("cache", ["foo", 3, [], {}]),
    *of("seed", [-1, "a", 1.5, None]),
    *of("nbs", [0, "a", None]),
    *of("fraction", [0, 1.5, "a", NAN, True]),
    *of("patience", [-1, "a", None]),
    *of("time", ["abc", NAN, INF, -1, [], {}]),
    *of("classes", ["a", 1.5, {}, [1.5], ["a"], -1]),
    *of("compile", ["foo", 1, []]),
    *of("split", [1, ""]),
    Case("split", "prune", {"split": "foo"}, ("'data=", "'foo:' images not found")),
    *of("exist_ok", ["yes", 1]),
    *of("lr0", [NAN, INF, -1, 2, "a", None]),
    *of("momentum", [NAN, 2, "a"]),
    *of("weight_decay", [NAN, -1, "a"]),
    *of("amp", ["foo", None, 3]),
    *[case for key in ("warmup_epochs", "box", "cls", "dfl", "dis") for case in of(key, [NAN, INF, "a"])],
]
PLACES = [
    *of("name", ["a\0b", "x" * 300, "..", "a/..", ".", {}, [], True, "a\nb", "a'b", "a?b", " a", "a\tb"]),
    *of("project", [{}, [], True, "a\0b", "a'b", "{files}/text.pt"]),
    *of("save_dir", [{}, [], 1, True, "a\0b", "{files}/text.pt"]),
]
NO_MODELS = ("empty", "text", "list", "tensor", "dict", "strings", "script", "number")
NO_MODEL = ["", "missing.pt", "{files}", "{files}/folder.pt", 1, True, [], {}, "best.onnx", "missing.yaml"]
YAMLS = [f"{{files}}/{name}.yaml" for name in ("list", "text", "empty", "broken")]
NO_CHECKPOINT = files(*(f"{name}.pt" for name in NO_MODELS))
NOT_FINITE = files("nan.pt", "inf.pt")
BAD_YAMLS = files("list.yaml", "text.yaml", "empty.yaml", "broken.yaml")
SL_HYP = {  # a key that is wrong among the hyperparameters of the sparsity training: its value
    **dict.fromkeys(("model", "data", "project", "name", "task", "mode", "save_dir", "distill_model"), "slim"),
    "resume": True,
    "exist_ok": True,
    "pretrained": "missing.pt",
    "epochs": 0,
    "speed_up": 3.0,
    "prune_method": "slim",
    "foo": 1,
    "lr0": 5.0,
    "optimizer": "foo",
}
FILES = [
    *of("model", [*NO_MODEL, None]),
    *of("model", NO_CHECKPOINT, "no checkpoint"),
    *of("model", NOT_FINITE, "not finite", "model.0.conv.weight"),
    *of("model", files("list.yaml", "text.yaml", "empty.yaml", "other.yaml")),
    *of("model", ["{files}/classify.pt"], "task=classify"),
    *of("model", files("it's.pt", "a?b.pt"), "Rename it"),
    Case("model", "prune", {"model": "{files}/fused.pt"}, ("fused",)),
    Case("model", "prune", {"model": "{files}/world.pt"}, ("WorldCompressor",)),
    *of("model", ["{files}/other.pt"], "classes", "'data="),
    *of("model", NO_MODEL, entry="tune"),
    *of("model", ["{files}/dense.pt"], "not a pruned checkpoint", entry="tune"),
    *of("model", NO_CHECKPOINT, "no checkpoint", entry="tune"),
    *of("model", ["{files}/pruned_nan.pt"], "not finite", entry="tune"),
    *of("model", ["missing.pt", *NO_CHECKPOINT], entry="sparsify", **SLIM),
    *of("model", ["{files}/nan.pt"], "not finite", entry="sparsify", **SLIM),
    *of("distill_model", ["missing.pt", True, 1, [], {}, "{files}", "{files}/folder.pt", "best.onnx"]),
    *of("distill_model", NO_CHECKPOINT, "no checkpoint"),
    *of("distill_model", NOT_FINITE, "not finite"),
    *of("distill_model", files("classify.pt", "rtdetr.pt", "other.pt")),
    *of("distill_model", ["{files}/dense.pt"], "'distill=False'", distill=False),
    *of("distill_model", ["missing.pt", True, "{files}/list.pt"], entry="tune", model="{files}/pruned.pt"),
    *of("distill_model", ["{files}/dense.pt"], entry="sparsify", **SLIM),
    *of("pretrained", ["missing.pt", 1, 1.5, [], {}, *files("list.pt", "nan.pt", "text.pt")], model="yolov8n.yaml"),
    *of("sl_model", ["missing.pt", "best.onnx", "{files}", *NO_CHECKPOINT], **SLIM),
    *of("sl_model", files("other.pt", "classify.pt"), "another architecture", **SLIM),
    *of("sl_model", ["{files}/nan.pt"], "not finite", **SLIM),
    *of("sl_hyp", ["missing.yaml", "{files}", *files("text.pt"), *BAD_YAMLS], **SLIM),
    *[Case("sl_hyp", "prune", {**SLIM, "sl_hyp": f"{{files}}/sl_{key}.yaml"}, ("'sl_hyp=", key)) for key in SL_HYP],
]
DATA = [
    *of("data", [None, "", "missing.yaml", {}, [], 1, True, "{files}", *files("text.pt"), *BAD_YAMLS]),
    *of("data", files("no_val.yaml", "no_images.yaml", "no_names.yaml", "no_train.yaml")),
    *of("data", ["missing.yaml", {}, "{files}/no_val.yaml"], entry="tune", model="{files}/pruned.pt"),
    *of("data", [None, "missing.yaml", {}, "{files}/no_val.yaml"], entry="sparsify", **SLIM),
    *of("data", ["{tiny}"], entry="pose", model="yolov8n-pose.yaml"),
    *of("data", ["missing_folder", "{files}/empty_folder"], entry="classify", model="yolov8n-cls.yaml"),
    *of("data", ["{files}/three.yaml"], "3 classes"),
]
RESUME = [
    *of("resume", [1, 1.5, [], {}, "abc", "missing/folder", "{files}"]),
    *of("resume", files("text.pt", "damaged_run", "empty_run")),
    *of("resume", [True], "found no run"),
    *of("resume", [1, "abc", [], {}, "{files}/list.pt", "{files}/text.pt"], entry="tune", model="{files}/pruned.pt"),
    *of("resume", [1, "abc", [], "{files}/list.pt"], entry="sparsify", **SLIM),
    *of("resume", [True, "abc", 1], entry="yolo"),
]
TARGETS = [
    *of("speed_up", [5000], "cannot be reached"),
    *of("speed_up", [5000], "cannot be reached", model="yolov8n.yaml"),
    *of("speed_up", [5000], "cannot be reached", prune_method="lamp"),
    *of("speed_up", [5000], "cannot be reached", sensitivity=True),
    *of("speed_up", [5000], "cannot be reached", **SLIM),
    *of("speed_up", [5000], "cannot be reached", entry="yolo"),
    *of("speed_up", [5000], "cannot be reached", entry="sparsify", **GROWING),
    *of("speed_up", [3], "cannot be reached", max_sparsity=0.1),
    *of("speed_up", [2], "cannot be reached", "lower round_to", round_to=10**9),
    *of("speed_up", [[2, 5000]], "cannot be reached", entry="yolo"),
]
TOGETHER = [
    Case("together", "prune", {**SLIM, "sl_epochs": 0}, ("'prune_method=slim'", "'sl_epochs=0'")),
    Case("together", "prune", {**GROWING, "sensitivity_drop": 0.1}, ("'sensitivity_drop=0.1'", "growing_reg")),
    Case("together", "sparsify", {"prune_method": "lamp"}, ("'prune_method=lamp' has no sparsity training",)),
    Case("together", "yolo", {"save_dir": "{files}/here", "speed_up": [2, 3]}, ("'save_dir=",)),
    Case("together", "prune", {"sped_up": 2.0}, ("sped_up", "speed_up")),
    Case("together", "tune", {"sped_up": 2.0}, ("sped_up", "speed_up")),
    Case("together", "sparsify", {"sped_up": 2.0}, ("sped_up", "speed_up")),
    Case("together", "segment", {}, ("task=detect", "task=segment")),
    Case("together", "prune", {"model": "{files}/foreign.pt", "data": "{tiny}"}, ("record is damaged",)),
]
COMMANDS = [
    Case("command", "cli", {"words": words}, named)
    for words, named in (
        ("data={tiny}", ("'model' argument is missing", "yolo compress model=")),
        ("speed_up=2", ("'model' argument is missing", "yolo compress model=")),
        ("model={dense} data={tiny} speed_up=abc", ("'speed_up=abc'",)),
        ("model={dense} data={tiny} speed_up=", ("'speed_up=",)),
        ("model={dense} data={tiny} speed_up", ("speed_up", "=")),
        ("model={dense} data={tiny} round_to=1.5", ("'round_to=1.5'",)),
        ("model={dense} data={tiny} sped_up=2", ("sped_up", "speed_up")),
        ("model={dense} data={tiny} optimizer=foo", ("'optimizer=foo'",)),
        ("model={dense} data={tiny} imgsz=64.5", ("'imgsz=64.5'",)),
        ("model={dense} data={tiny} speed_up=nan", ("'speed_up=nan'",)),
        ("model={dense} data={tiny} reg=inf", ("'reg=inf'",)),
        ("model={dense} data={tiny} reg=1e999", ("'reg=inf'",)),
        ("model={files}/other.yaml data={tiny}", ("'model=", "it has no list 'backbone'")),
        ("model={files}/text.yaml data={tiny}", ("'model=",)),
        ("model=missing.yaml data={tiny}", ("'model=missing.yaml'",)),
        ("model=missing.pt data={tiny}", ("missing.pt", "'model")),
        ("model={files}/list.pt data={tiny}", ("'model=", "no checkpoint")),
        ("model={files}/tensor.pt data={tiny}", ("'model=", "no checkpoint")),
        ("model={files}/dict.pt data={tiny}", ("'model=", "no checkpoint")),
        ("model={files}/empty.pt data={tiny}", ("'model=", "no checkpoint")),
        ("model={files}/text.pt data={tiny}", ("'model=", "no checkpoint")),
        ("model={files}/nan.pt data={tiny}", ("not finite",)),
        ("model={files}/classify.pt data={tiny}", ("'data=",)),
        ("cfg=missing.yaml", ("missing.yaml",)),
        ("cfg={files}/text.yaml", ("text.yaml",)),
        ("model={dense} data={tiny} resume=1", ("'resume=1'",)),
        ("model={dense} data={tiny} distill_model=True", ("'distill_model=True'",)),
        ("model=best.onnx data={tiny}", ("best.onnx",)),
    )
]
CASES = [*OWN, *RANGES, *STOCK, *PLACES, *FILES, *DATA, *RESUME, *TARGETS, *TOGETHER, *COMMANDS]
