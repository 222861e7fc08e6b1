# SPDX-License-Identifier: AGPL-3.0-or-later
"""Names of Ultralytics that differ between its releases: all other code imports them from here.

What stands for a name is chosen by what is there, never by a version number. Layers that a release lacks are stood for
by a class that nothing is an instance of.

| name                                | since    | what stands for it before                                       |
| ----------------------------------- | -------- | --------------------------------------------------------------- |
| AAttn, YOLOEDetect                  | 8.3.10x  | no such layers                                                  |
| get_gpu_info                        | 8.3.1x   | the same from torch                                             |
| unset_deterministic                 | 8.3.7x   | the same from torch                                             |
| YAML                                | 8.3.14x  | yaml_load, yaml_save, yaml_print                                |
| BaseTrainer.get_dataset: data alone | 8.3.14x  | the data set's two splits; the trainer keeps the data           |
| load_checkpoint                     | 8.3.19x  | attempt_load_one_weight                                         |
| unwrap_model                        | 8.3.19x  | de_parallel                                                     |
| override_configs                    | 8.3.16x  | our own in all: older arguments lack keys, which must go again  |
| Proto26, Pose26                     | 8.4.0    | no such layers                                                  |
| increment_path with '-'             | 8.4.4x   | a number without a mark                                         |
| get_save_dir makes no folder        | 8.4.4x   | ours keeps 8.3.24x and newer from it                            |
| 'save_dir' in overrides             | 8.4.4x   | is taken if the configuration has the key                       |
| _build_train_pipeline               | 8.4.4x   | the rule for 'nbs' is applied when _setup_train has ended       |
| SemanticSegment and its trainer     | 8.4.7x   | no such layers, no such task                                    |
| 'distill_model', 'cls_remap'        | 8.4.9x   | no distillation, which is said; class rows are not taken over   |
| Depth and its trainer               | 8.4.10x  | no such layers, no such task                                    |
| 'quantize' in exports               | 8.4.8x   | no deploy stage                                                 |
| get_flops with attention            | 8.4.11x  | our own sum of layers and products                              |
| callbacks in DDP workers            | 8.4.1xx  | several GPUs are refused                                        |
| quantization-aware training         | 8.4.1xx  | 'quantize=8' is refused                                         |
"""

# Oldest first, which is the bound of an installation; tests/matrix.py runs them.
TESTED = ("8.3.0", "8.3.150", "8.3.253", "8.4.0", "8.4.50", "8.4.100", "8.4.112", "8.4.190")
