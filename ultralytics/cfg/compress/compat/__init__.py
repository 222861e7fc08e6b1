# SPDX-License-Identifier: AGPL-3.0-or-later
"""Names of Ultralytics that differ between its releases: all other code imports them from here.

What stands for a name is chosen by what is there, never by a version number. Layers that a release lacks are stood for
by a class that nothing is an instance of.

| name                           | since   | what stands for it before                             |
| ------------------------------ | ------- | ----------------------------------------------------- |
| get_gpu_info                   | 8.3.6   | the same from torch                                   |
| optimizers in small letters    | 8.3.26  | refused, which Ultralytics does after the pruning     |
| unset_deterministic            | 8.3.74  | the same from torch                                   |
| AAttn                          | 8.3.78  | no such layer                                         |
| YOLOEDetect                    | 8.3.99  | no such layer                                         |
| v10Detect.fuse                 | 8.3.111 | both branches of that head are timed                  |
| YAML                           | 8.3.125 | yaml_load, yaml_save, yaml_print                      |
| get_dataset returns the data   | 8.3.132 | it returns two splits, and the trainer keeps the data |
| override_configs               | 8.3.156 | our own in all releases: older arguments lack keys    |
| load_checkpoint                | 8.3.193 | attempt_load_one_weight                               |
| unwrap_model                   | 8.3.196 | de_parallel                                           |
| BaseTrainer.ddp                | 8.3.200 | the count of devices, as the trainer reads it         |
| a new results.csv              | 8.3.214 | ours deletes that of an earlier run in the folder     |
| Proto26, Pose26                | 8.4.0   | no such layers                                        |
| optimizer=MuSGD                | 8.4.0   | refused as well                                       |
| 'save_dir' in overrides        | 8.4.2   | taken if the configuration has the key                |
| get_save_dir makes no folder   | 8.4.4   | from 8.3.251 on it does, and ours keeps it from it    |
| _build_train_pipeline          | 8.4.13  | the rule for 'nbs' holds when _setup_train has ended  |
| a '-' before a folder's number | 8.4.39  | a number alone                                        |
| SemanticSegment, its trainer   | 8.4.52  | no such layer, no such task                           |
| 'distill_model'                | 8.4.77  | no distillation, which is said                        |
| 'quantize' in exports          | 8.4.80  | no deploy stage                                       |
| 'cls_remap'                    | 8.4.91  | new classes begin anew                                |
| _get_warmup_iterations         | 8.4.103 | as the loop counts them                               |
| Depth, its trainer             | 8.4.104 | no such layer, no such task                           |
| attention in get_flops         | 8.4.109 | our own sum of layers and products                    |
| trainable after YOLOE's fuse   | 8.4.117 | copies of the parameters made in inference mode       |
| channels_last in AutoBackend   | 8.4.133 | latency is timed in PyTorch's own layout              |
| ckpt_path after YOLO.load      | 8.4.140 | the file noted among its overrides                    |
| callbacks for DDP workers      | 8.4.140 | several GPUs are refused                              |
| quantize=8 in training         | 8.4.143 | refused                                               |
| a loss that is None            | 8.4.164 | deleted: RT-DETR and World build it if there is none  |
| 'fraction' as a count          | 8.4.190 | INT8 is calibrated on all training pictures           |
"""

# Oldest first, which is the bound of an installation; tests/matrix.py runs them.
TESTED = ("8.3.0", "8.3.150", "8.3.253", "8.4.0", "8.4.50", "8.4.100", "8.4.112", "8.4.190")
