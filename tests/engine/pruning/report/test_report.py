# SPDX-License-Identifier: AGPL-3.0-or-later
"""The report: what it says, in JSON, as a table, in pictures and on a page."""

import base64
import html
import inspect
import json
import re
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
from conftest import FAST, Interrupted, build_model, interrupt
from markupsafe import Markup

from ultralytics import YOLO
from ultralytics.cfg.compress import __version__
from ultralytics.engine.compress.evaluation import read_curve
from ultralytics.engine.pruning.budget.flops import count_flops
from ultralytics.engine.pruning.budget.target import Budget
from ultralytics.engine.pruning.latency.onnx_runtime import onnx_latency
from ultralytics.engine.pruning.latency.runtimes import RUNTIMES
from ultralytics.engine.pruning.latency.turns import Timing, take_turns
from ultralytics.engine.pruning.prune import prune_model
from ultralytics.engine.pruning.report import build as report_module
from ultralytics.engine.pruning.report.build import save_report
from ultralytics.engine.pruning.report.course import course_of, passed_dense, seconds_by_epoch
from ultralytics.engine.pruning.report.layers import compare_layers
from ultralytics.engine.pruning.report.page import report_page
from ultralytics.engine.pruning.report.plots import contradictions, draw_blocks
from ultralytics.engine.pruning.report.table import (
    export_command,
    format_report,
    no_gain,
    remarks_of,
    spreads_of,
    summary_of,
    table_of,
    whole_of,
)
from ultralytics.engine.trainer import BaseTrainer

pytestmark = pytest.mark.usefixtures("every_runtime")


@pytest.fixture(scope="module")
def run(best_pt, tiny_data, tmp_path_factory):
    """Folder of the fine-tuning of a whole run with plots."""
    folder = tmp_path_factory.mktemp("report")
    YOLO(best_pt).compress(**{**FAST, "plots": True}, data=tiny_data, project=str(folder), name="p")
    return folder / "p-finetune"


@pytest.fixture
def report(run):
    """Its report."""
    return json.loads((run / "report.json").read_text())


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n", "yolov8n-cls", "yolo26n-sem"])
def test_layers_add_up_to_the_model(name):
    model = build_model(name)
    pruned, record = prune_model(model, Budget(2.0), prune_method="lamp")
    rows = compare_layers(model, pruned)
    for i, network in enumerate((model, pruned)):
        assert sum(row["gflops"][i] for row in rows) == pytest.approx(count_flops(network), rel=0.07)  # batch norms
    for row in rows:
        layer = dict(pruned.named_modules())[row["name"]]
        assert row["parameters"][1] == sum(p.numel() for p in layer.parameters())
        assert row["channels"][1] == len(record.channels[row["name"]]["out"]) <= row["channels"][0]
    parts = [row["part"] for row in rows]
    assert parts == sorted(parts, key=["backbone", "neck", "head"].index)


def test_pictures_and_page_of_a_run(run, report):
    for folder in (run, run.with_name("p-prune")):
        page = (folder / "report.html").read_text()
        found = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", page)]
        names = ["layers.png", "latency.png", *(["finetuning.png"] if folder == run else [])]
        assert found == [(folder / name).read_bytes() for name in names]
        for data in found:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert min(picture.shape[:2]) > 300 and picture.std() > 5
        assert not re.search(r"(src|href)=\"(?!data:)", page)  # nothing from elsewhere
    cells = re.findall(r"<td>([^<]*)</td>", page)
    for row in report["rows"].values():
        assert f"{row['parameters']:,}" in cells and f"{row['gflops']:.2f}" in cells
    assert all(row["name"] in cells for row in report["layers"])
    left = YOLO(run.with_name("p-prune") / "weights" / "prune.pt").model.pruning["left_dense"]
    assert report["left_dense"] == left and "model.22.cv2.0.2" in left
    assert all(name in cells and why in cells for name, why in left.items())
    (ends,) = [entry for entry in report["kept_whole"] if "predictions" in entry["reason"]]
    assert ends["place"] == "model.22" and set(ends["layers"]) == left.keys() and 0 < ends["share"] < 0.01


def test_curve_is_the_results_csv(run, report):
    assert report["curve"] == read_curve(run / "results.csv", "detect")
    assert report["curve"]["epochs"] == [1, 2]
    assert report["rows"]["fine-tuned"]["mAP50-95"] == pytest.approx(max(report["curve"]["values"]), abs=0.02)
    assert read_curve(run / "nothing.csv", "detect") is None
    last = read_curve(run / "results.csv", "detect", every=False)  # val=False
    assert last["epochs"] == [2] and last["values"] == report["curve"]["values"][-1:]


def test_first_epoch_as_good_as_the_dense_model_is_named(run, report):
    curve, dense = report["curve"], report["rows"]["dense"]["mAP50-95"]
    notes_time = '"time"' in inspect.getsource(BaseTrainer.save_metrics)  # newer releases do
    seconds = curve["seconds"] if notes_time else [1.0, 2.0]
    assert len(seconds) == 2 and 0 < seconds[0] < seconds[1] and ("seconds" in curve) == notes_time
    first = next((epoch for epoch, value in zip(curve["epochs"], curve["values"]) if value >= dense), None)
    assert (report["passed_dense"] or {"epoch": None})["epoch"] == first
    (line,) = course_of(report)
    assert line in format_report(report) and line in html.unescape((run / "report.html").read_text())
    assert course_of(json.loads((run.with_name("p-prune") / "report.json").read_text())) == []  # no training


def test_course_of_a_training():
    seconds = seconds_by_epoch([10, 21, 8, 17])  # resumed after the second epoch
    assert seconds == [10, 21, 29, 38]
    curve = {"metric": "mIoU", "epochs": [1, 2, 3, 4], "values": [0.1, 0.3, 0.5, 0.4], "seconds": seconds}
    report = {"curve": curve, "rows": {"dense": {"mIoU": 0.3}}}
    assert passed_dense(curve, 0.3) == {"epoch": 2, "seconds": 21}
    assert course_of(report) == [
        "Fine-tuning was first as good as the dense model in epoch 2 of 4, after 0.3 minutes."  # 21 s
    ]
    report["rows"]["dense"]["mIoU"] = 0.6
    assert passed_dense(curve, 0.6) is None
    assert course_of(report) == [
        "No epoch of fine-tuning was as good as the dense model: the best, 3 of 4, has 0.5000."
    ]
    report["rows"] |= {"quantised": {}}
    (line,) = course_of(report)
    assert line.startswith("No epoch of quantization-aware training was as good")


def test_curve_has_the_main_metric_of_every_epoch(tmp_path):
    """In real runs as short as the tests' every metric is 0."""
    columns = ["epoch", "metrics/mAP50(B)", "metrics/mAP50-95(B)", "metrics/accuracy_top1", "metrics/accuracy_top5"]
    lines = [columns, [1, 0.4, 0.2, 0.5, 0.8], [2, 0.6, 0.3, 0.7, 0.9]]
    (tmp_path / "results.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    for task, metric, values in (("detect", "mAP50-95", [0.2, 0.3]), ("classify", "top1", [0.5, 0.7])):
        curve = {"metric": metric, "epochs": [1, 2], "values": values}
        assert read_curve(tmp_path / "results.csv", task) == curve
        last = {"metric": metric, "epochs": [2], "values": values[1:]}
        assert read_curve(tmp_path / "results.csv", task, every=False) == last


def test_blocks_are_those_of_the_model(report):
    names = {row["block"] for row in report["layers"]}
    for blocks in report["blocks"].values():
        assert names <= blocks.keys() and len(blocks) == 23
        assert sum(blocks.values()) > 0 and blocks.keys() == report["blocks"]["dense"].keys()


def test_latency_says_how_it_was_measured(report):
    text = format_report(report)
    for row in report["rows"].values():
        low, median, high = (row[f"pytorch_latency_p{percent}_ms"] for percent in (10, 50, 90))
        assert low <= median <= high
    assert f"{report['threads']} CPU threads" in text
    if find_spec("onnxruntime") and find_spec("onnx"):
        assert all(row["onnx_latency_p10_ms"] > 0 for row in report["rows"].values())
        assert "latency in ONNX Runtime on the CPU " in text
    else:
        assert "onnx_latency_p10_ms" not in report["rows"]["dense"] and "not installed: onnx" in text


def test_models_of_equal_layers_share_their_latency(report):
    rows = report["rows"]
    latencies = [key for key in rows["dense"] if "latency" in key]
    assert latencies
    for key in latencies:
        assert rows["pruned"][key] == rows["fine-tuned"][key] != rows["dense"][key]


def test_gain_is_dense_over_last_and_the_change_of_the_metrics(report):
    dense, last = report["rows"]["dense"], report["rows"]["fine-tuned"]
    dense |= {"mAP50": 0.75, "mAP50-95": 0.5}  # after two epochs they are 0
    last |= {"mAP50": 0.71, "mAP50-95": 0.44}
    headings, *_, gain = table_of(report)
    assert gain[0] == "gain"
    assert gain[headings.index("parameters")] == f"{dense['parameters'] / last['parameters']:.2f}x"
    assert float(gain[headings.index("mAP50")]) == pytest.approx(last["mAP50"] - dense["mAP50"], abs=1e-4)
    assert float(gain[headings.index("mAP50-95")]) == pytest.approx(-0.06, abs=1e-4)
    summary = summary_of(report)
    assert f"dense {dense['mAP50-95']:.4f}, fine-tuned {last['mAP50-95']:.4f}" in summary and "on tiny.yaml" in summary


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Return a function that builds the report of a pruned model from made-up timings."""
    model = build_model("yolov8n")
    pruned, record = prune_model(model, Budget(2.0), prune_method="lamp")
    pruned.pruning = record.to_dict()
    file = tmp_path / "a.pt"
    file.write_bytes(b"0" * 1000)
    models, files = {"dense": model, "pruned": pruned}, {"dense": file, "pruned": file}
    metrics = dict.fromkeys(models, {"mAP50-95": 0.5})

    def build(pytorch, onnx, blocks):
        timings = {"pytorch": pytorch, "onnx": onnx}
        for name, runtime in RUNTIMES.items():
            made_up = runtime._replace(
                time_models=lambda *_, name=name: dict(zip(models, timings[name])),
                version=lambda device: "1.0",
                packages=() if timings.get(name) else ("nobodys_package",),
            )
            monkeypatch.setitem(RUNTIMES, name, made_up)
        monkeypatch.setattr(report_module, "block_latency", lambda *_: dict(zip(models, blocks)))
        return report_module.build_report(models, files, metrics, 32, torch.device("cpu"), "a.yaml", "mAP50-95")

    return build


QUIET = [{"0 Conv": 60.0, "1 Detect": 30.0}, {"0 Conv": 30.0, "1 Detect": 16.0}]  # blocks of what takes 100 and 50 ms


def test_ratios_are_those_of_the_tenth_percentiles(measured):
    """On a busy machine medians said 14.55x of a model that is twice as fast."""
    report = measured([Timing(120, 100, 150), Timing(70, 50, 90)], [Timing(160, 40, 400), Timing(11, 10, 39)], QUIET)
    assert (report["pytorch_latency_ratio"], report["onnx_latency_ratio"]) == (2.0, 4.0)
    rows = report["rows"]
    assert [rows["dense"][f"pytorch_latency_p{percent}_ms"] for percent in (10, 50, 90)] == [100, 120, 150]
    summary, (headings, dense, _, gain) = summary_of(report), table_of(report)
    assert "latency in PyTorch 2.00x, latency in ONNX Runtime on the CPU 4.00x" in summary
    for heading, ms, ratio in (("PyTorch (ms)", "100.00", "2.00x"), ("ONNX Runtime (ms)", "40.00", "4.00x")):
        assert (dense[headings.index(heading)], gain[headings.index(heading)]) == (ms, ratio)
    assert "dense 40.00 / 160.00 / 400.00" in spreads_of(report)[1]
    assert not any("overlap" in line for line in spreads_of(report))


@pytest.mark.parametrize(("dense", "pruned"), [((12, 10, 20), (6, 5, 10)), ((6, 5, 10), (12, 10, 20))])
def test_a_ratio_of_overlapping_latencies_is_not_resolved(measured, dense, pruned):
    report = measured([Timing(*dense), Timing(*pruned)], [Timing(8, 8, 9), Timing(2, 2, 3)], QUIET)
    assert report["pytorch_latency_ratio"] is None and report["onnx_latency_ratio"] == 4.0
    headings, *_, gain = table_of(report)
    assert "latency in PyTorch not resolved, latency in ONNX Runtime on the CPU 4.00x" in summary_of(report)
    assert (
        gain[headings.index("PyTorch (ms)")] == "not resolved" and gain[headings.index("ONNX Runtime (ms)")] == "4.00x"
    )
    pytorch, onnx = spreads_of(report)
    assert "dense and pruned overlap" in pytorch and "overlap" not in onnx
    assert pytorch in format_report(report) and str(Markup.escape(pytorch)) in report_page(report, {})


def test_a_ratio_to_interrupted_runs_is_not_resolved(measured):
    report = measured([Timing(50, 40, 60), Timing(8, 8, 9)], [Timing(50, 40, 60, True), Timing(8, 8, 9)], QUIET)
    assert report["interrupted"] == {"onnx": ["dense"]}
    assert report["pytorch_latency_ratio"] == 5.0 and report["onnx_latency_ratio"] is None
    pytorch, onnx = spreads_of(report)
    assert "other work" not in pytorch
    assert "Other work had the CPU during nearly all runs of dense, so their ratio is not resolved." in onnx
    assert no_gain(report) == []  # nothing is known about it
    del report["interrupted"]  # as in reports of version 0.2.0
    assert "overlap" in spreads_of(report)[1] and "no faster in ONNX Runtime" in no_gain(report)[0]


def test_a_pruned_model_that_is_slower_says_so(measured):
    report = measured([Timing(6, 5, 9), Timing(12, 10, 20)], None, QUIET)
    assert report["pytorch_latency_ratio"] == 0.5 and "onnx_latency_ratio" not in report
    assert "latency in PyTorch 0.50x." in summary_of(report)


def test_blocks_that_contradict_the_table_are_pointed_out(measured, tmp_path):
    timings = [Timing(110, 100, 120), Timing(55, 50, 60)]
    assert contradictions(measured(timings, None, QUIET)) == []
    draw_blocks(measured(timings, None, QUIET), tmp_path / "quiet.png")
    busy = [QUIET[0], {"0 Conv": 30.0, "1 Detect": 33.0}]
    (line,) = contradictions(measured(timings, None, busy))
    assert "pruned: the blocks sum to 63.0 ms, the whole model takes 50.0 ms" in line
    draw_blocks(measured(timings, None, busy), tmp_path / "busy.png")
    quiet, busy = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("quiet", "busy"))
    warm = [int((picture[:40, :, 2].astype(int) - picture[:40, :, 0] > 60).sum()) for picture in (quiet, busy)]
    assert warm[0] == 0 < warm[1]  # a line above the axes in the colour of alarms
    short = [QUIET[0], {"0 Conv": 30.0, "1 Detect": 7.0}]
    assert len(contradictions(measured(timings, None, short))) == 1


def test_report_names_its_layout_version_and_target(report):
    assert (report["schema"], report["versions"]["ultralytics-compress"]) == (report_module.SCHEMA, __version__)
    assert f"ultralytics-compress {__version__}" in report_page(report, {})
    record = YOLO(report["rows"]["pruned"]["weights"]).model.pruning
    assert report["target"] == {"budget": "flops", "precision": "fp32", "value": 2.0, "reached": record["reached"]}
    dense, last = report["rows"]["dense"], report["rows"]["fine-tuned"]
    assert report["flops_ratio"] == dense["gflops"] / last["gflops"]
    assert f"FLOPs {report['flops_ratio']:.3f}x" in summary_of(report)
    assert not [key for key in report if "speed_up" in key]


def test_report_is_complete_once_its_json_is_there(report, tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "report_page", interrupt)
    with pytest.raises(Interrupted):
        save_report(report, tmp_path)
    assert not list(tmp_path.glob("*.json")) and not list(tmp_path.glob(".*"))


def test_the_log_ends_with_what_to_deploy(report, tmp_path, log):
    save_report(report, tmp_path, plots=False)
    weights = report["rows"]["fine-tuned"]["weights"]
    assert log.messages[-1].startswith("Deploy ") and weights in log.messages[-1]
    assert log.messages[-1].endswith(f"yolo export model={weights} format=onnx imgsz=32")
    log.clear()
    del report["rows"]["fine-tuned"]  # a run that goes on to the fine-tuning
    save_report(report, tmp_path, plots=False)
    assert "Deploy" not in log.text


def test_a_fine_tuning_that_made_it_worse_is_pointed_out(report, tmp_path, log):
    rows = report["rows"]
    rows["pruned"]["mAP50-95"], rows["fine-tuned"]["mAP50-95"] = 0.5991, 0.3532
    (remark,) = remarks_of(report)
    assert all(part in remark for part in ("0.5991", "0.3532", "epochs", rows["pruned"]["weights"]))
    assert str(Markup.escape(remark)) in report_page(report, {})
    save_report(report, tmp_path, plots=False)
    assert remark in log.text
    rows["fine-tuned"]["mAP50-95"] = 0.5991
    assert remarks_of(report) == []
    rows["fine-tuned"]["mAP50-95"] = float("nan")
    assert remarks_of(report) == []
    del rows["fine-tuned"]
    assert remarks_of(report) == []


def test_page_says_how_to_deploy(run, report):
    assert f"yolo export model={run / 'weights' / 'best.pt'} format=onnx imgsz=32" in report_page(report, {})
    assert export_command("my runs/best.pt", 32) == "yolo export 'model=my runs/best.pt' format=onnx imgsz=32"


def test_report_says_so_when_onnx_is_missing(measured, tmp_path):
    result = measured([Timing(6, 5, 7), Timing(3, 2, 4)], None, QUIET)
    assert result["runtimes"]["onnx"] == "not measured, not installed: nobodys_package"
    assert "not measured, not installed: nobodys_package" in report_page(result, {})
    save_report(result, tmp_path, plots=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "report.html", "report.json"]


def test_turns_are_taken_and_warm_ups_left_out():
    order = []
    timings = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, torch.device("cpu"), "x", 3)
    assert order == ["a", "b"] * 8
    assert timings.keys() == {"a", "b"} and all(t.low <= t.median <= t.high for t in timings.values())


def test_what_stays_whole_is_in_the_log_and_on_the_page(report):
    entry = {"place": "model.4.b", "reason": "LayerNorm", "layers": ["model.4.b.a", "model.4.b.c"], "share": 0.31}
    report["kept_whole"] = [entry, {**entry, "place": "model.5", "share": 0.002}]
    assert whole_of(report)[1:] == [["model.4.b", "2", "31.0%", "LayerNorm"], ["model.5", "2", "0.2%", "LayerNorm"]]
    text, page = format_report(report), report_page(report, {})
    assert "share of the FLOPs" in text and "31.0%" in text and "model.5" not in text  # too little for the log
    assert all(cell in page for cell in ("31.0%", "0.2%", "share of the FLOPs", "model.4.b.c"))
    report["target"]["budget"] = "onnx"
    assert "share of the milliseconds" in format_report(report)


def test_names_in_the_page_are_escaped(report):
    report["rows"]["dense"]["weights"] = "<b>.pt"
    assert "&lt;b&gt;.pt" in report_page(report, {}) and "<b>.pt" not in report_page(report, {})


@pytest.mark.skipif(not (find_spec("onnxruntime") and find_spec("onnx")), reason="needs ONNX Runtime")
def test_sessions_do_not_disturb_each_other(monkeypatch):
    import onnxruntime

    options = []
    session = onnxruntime.InferenceSession

    def watched(file, settings, **kwargs):
        options.append(settings)
        return session(file, settings, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        model = build_model("yolov8n")
        times = onnx_latency({"a": model, "b": model}, 32)
        assert torch.get_num_threads() == 3  # the exporter sets Ultralytics' own number
    finally:
        torch.set_num_threads(threads)
    assert times.keys() == {"a", "b"}
    assert [o.intra_op_num_threads for o in options] == [3, 3]
    # idle threads of one session would spin on while the other is timed
    assert [o.get_session_config_entry("session.force_spinning_stop") for o in options] == ["1", "1"]
