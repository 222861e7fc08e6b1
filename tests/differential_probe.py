# SPDX-License-Identifier: AGPL-3.0-or-later
"""What plain Ultralytics does, as JSON: `test_differential.py` runs it with and without this package beside it.

Usage: python differential_probe.py FUNCTION ARGUMENT... FILE
"""

import contextlib
import hashlib
import json
import re
import sys
from pathlib import Path

FAST = {"imgsz": 32, "batch": 4, "plots": False, "device": "cpu", "workers": 0}
ODD = [
    *(0, 1, -1, 8, 2.0, 100.0, 0.5, 1.5, True, False, None, float("nan"), float("inf")),
    *("1", "8", "1e2", "true", "None", "", "abc", "int8", "fp16", "BF16", "FP32", "w8a16", "SGD", "train"),
    *([1, 2], [0.5, 0.5], (0.5, 2.0), [], {}, {"a": 1}),
]
COMMANDS = (
    "train model=yolov8n.yaml seed=1e0 amp=BF16",
    "train model=yolov8n.yaml amp=FP32 epochs=1e1 cfg",
    "val model=yolov8n.yaml max_det=1e2",
    "val model=yolov8n.yaml speed_up=7",
    "train model=yolov8n.yaml distill",
    "train model=yolov8n.yaml reg=0.1 prune_method=lamp",
    "export model=yolov8n.yaml format=onnx quantize=int8",
    "export model=yolov8n.yaml format=onnx quantize=fp16 half",
    "export model=yolov8n.yaml nms simplify=False opset=1.7e1",
    "predict model=yolov8n.yaml conf=1",
    "benchmark model=yolov8n.yaml quantize=8 imgsz=32",
    "predict model=yolov8n.yaml cof=1",
)


def sentence_of(error):
    """Return what an error says, without addresses and the help on the command line, which names our mode as well."""
    from ultralytics.cfg import CLI_HELP_MSG

    return f"{type(error).__name__}: {re.sub(' at 0x[0-9a-f]+', '', str(error).replace(CLI_HELP_MSG, ''))}"


def keys():
    """Tables of keys and modes."""
    from ultralytics import cfg
    from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, DEFAULT_CFG_KEYS

    tables = {name: table for name, table in vars(cfg).items() if name.startswith("CFG_")}
    known = {"dict": DEFAULT_CFG_DICT, "names": DEFAULT_CFG_KEYS, "defaults": vars(DEFAULT_CFG), "modes": cfg.MODES}
    return {name: sorted(table) for name, table in {**tables, **known}.items()}


def values():
    """What `get_cfg` and `check_cfg` make of odd values of every key: the value, or the error."""
    from ultralytics.cfg import check_cfg, get_cfg
    from ultralytics.utils import DEFAULT_CFG_DICT

    def outcome(function):
        try:
            return repr(function())
        except (AttributeError, KeyError, OverflowError, SyntaxError, TypeError, ValueError) as error:
            return sentence_of(error)

    def in_place(key, value, hard):
        given = {key: value}
        try:
            check_cfg(given, hard)
        finally:
            left.append(repr(given))
        return given

    left = []
    found = {}
    for key in (*DEFAULT_CFG_DICT, "half", "int8", "end2end", "boxes", "save_dir", "augmentations", "imgs"):
        for i, value in enumerate(ODD):
            found[f"{key}={value!r} {i}"] = [
                outcome(lambda: vars(get_cfg(overrides={key: value})).get(key)),
                outcome(lambda: in_place(key, value, True)),
                outcome(lambda: in_place(key, value, False)),
            ]
    return {"found": found, "left": left}


def commands():
    """What arrives at the stock classes from the command line, or the error."""
    from ultralytics import cfg
    from ultralytics.engine.exporter import Exporter
    from ultralytics.engine.predictor import BasePredictor
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.engine.validator import BaseValidator

    class Arrived(BaseException):
        """Ends a command."""

    def tell(frame, event, argument):  # when the stock constructor has its arguments
        code = frame.f_code
        if event == "call" and code.co_name in {"parse_device", "get_save_dir", "check_imgsz", "select_device"}:
            caller = frame.f_back
            if isinstance(owner := caller.f_locals.get("self"), (Exporter, BasePredictor, BaseTrainer, BaseValidator)):
                raise Arrived(repr(sorted(vars(owner.args).items(), key=str)))

    found = {}
    for command in COMMANDS:
        sys.setprofile(tell)
        try:
            cfg.entrypoint(f"yolo {command}")
            found[command] = "ended"
        except (Arrived, Exception) as error:  # noqa: BLE001 what stock raises is the result
            found[command] = sentence_of(error)
        finally:
            sys.setprofile(None)
    return found


def hash_of(model):
    """Return the hash of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.float().numpy().tobytes())
    return digest.hexdigest()


def describe(run):
    """Return everything about a run's folder that two equal runs share."""
    import yaml

    from ultralytics.nn import tasks

    load_checkpoint = getattr(tasks, "load_checkpoint", None) or tasks.attempt_load_one_weight
    run = Path(run)
    found = {"files": sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file())}
    args = yaml.safe_load((run / "args.yaml").read_text(encoding="utf-8"))
    found["args"] = {k: str(v).replace(str(run.parent), "") for k, v in args.items()}
    for file in sorted((run / "weights").iterdir()):
        model, checkpoint = load_checkpoint(file)
        found[file.name] = [sorted(checkpoint), sorted(checkpoint["train_args"]), hash_of(model)]
    return found


def train(data, project, name, stop):
    """Train, or stop when the first epoch has been saved."""
    from ultralytics import YOLO

    model = YOLO("yolov8n.yaml")
    if stop == "stop":
        model.add_callback("on_model_save", lambda trainer: (_ for _ in ()).throw(KeyboardInterrupt))
    with contextlib.suppress(KeyboardInterrupt):
        model.train(data=data, epochs=2, project=project, name=name, **FAST)
    return describe(Path(project, name))


def resume(run):
    """Go on with a stopped training."""
    from ultralytics import YOLO

    YOLO(Path(run, "weights/last.pt")).train(resume=True)
    return describe(run)


def again(run, name):
    """Train once more with the arguments of another run."""
    from ultralytics import YOLO

    model = YOLO("yolov8n.yaml")
    model.train(cfg=str(Path(run, "args.yaml")), name=name, save_dir=None)
    return describe(Path(run).with_name(name))


def export(weights, data, folder):
    """Export with every precision; what is in the ONNX files, or the error."""
    import onnx

    from ultralytics import YOLO

    found = {}
    for i, quantize in enumerate((None, 32, "fp16", 16, "int8", "w8a16", "int4")):
        file = Path(folder, f"{i}.pt")
        file.write_bytes(Path(weights).read_bytes())
        try:
            model, keys = YOLO(file), {"imgsz": 32, "device": "cpu", "simplify": False, "data": data}
            exported = model.export(format="onnx", quantize=quantize, **keys)
        except (AssertionError, ModuleNotFoundError, RuntimeError, TypeError, ValueError, SyntaxError) as error:
            found[str(quantize)] = f"{type(error).__name__}: {error}".replace(str(folder), "")
            continue
        graph = onnx.load(exported).graph
        types = sorted({weight.data_type for weight in graph.initializer})
        values = hashlib.sha256(b"".join(weight.raw_data for weight in graph.initializer)).hexdigest()
        found[str(quantize)] = [len(graph.node), types, values]
    return found


def tune(weights, data, project):
    """Tune for one iteration."""
    import yaml

    from ultralytics import YOLO

    YOLO(weights).tune(data=data, iterations=1, epochs=1, project=project, name="tune", val=False, **FAST)
    run = Path(project, "tune")
    files = sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file())
    return {"files": files, "best": sorted(yaml.safe_load((run / "best_hyperparameters.yaml").read_text("utf-8")))}


def benchmark(weights, data):
    """Benchmark the PyTorch model."""
    from ultralytics import YOLO

    rows = YOLO(weights).benchmark(data=data, imgsz=32, device="cpu", format="-", quantize="fp16")
    return {"columns": rows.columns, "rows": [row[:4] for row in rows.rows()]}


if __name__ == "__main__":
    function, *arguments, file = sys.argv[1:]
    Path(file).write_text(json.dumps(globals()[function](*arguments)))
