# SPDX-License-Identifier: AGPL-3.0-or-later
"""Copied into a fork, the extension replaces nothing of the fork's own, and taken out again it leaves no trace."""

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, also_slow

from ultralytics.cfg.compress.compat import TESTED

SCRIPT = ROOT / "ultralytics/cfg/compress/startup/ultralytics_compress_drop_in.py"
sys.path.insert(0, str(SCRIPT.parent))  # as it is here, not as it was when it was installed
import ultralytics_compress_drop_in as drop_in

sys.path.pop(0)
DETECT, HYP = "models/yolo/detect/compress.py", "cfg/hyp.scratch.sl.yaml"
RECIPE = "class DetectionCompressor:\n    pass\n\n\nclass DetectionFinetune:\n    pass\n"
EXTRA = {  # what a fork has in nn/extra_modules, and imports where it parses models
    "nn/extra_modules/__init__.py": "from .attention import *\nfrom .block import *\n",
    "nn/extra_modules/attention.py": "from torch import nn\n\n\nclass SimAM(nn.Module):\n    pass\n",
    "nn/extra_modules/block.py": "from torch import nn\n\n\nclass C2f_Faster(nn.Module):\n    pass\n",
}
STAR = ("nn/tasks.py", "\nfrom ultralytics.nn.extra_modules import *\nMINE = (SimAM, C2f_Faster)\n")
LAYOUTS = {  # public repositories: files of their own, files that they have added to
    "wd-sir/UAVDETR": (EXTRA, [STAR]),
    "z1069614715/ultralytics-face": ({HYP: "lr0: 0.01\n"}, []),
    "666xkk/ES-YOLOv8": ({DETECT: RECIPE}, []),
    "Laudeyi/GCC-YOLOv8": (
        {
            **EXTRA,
            DETECT: RECIPE,
            "nn/extra_modules/prune_module.py": "",
            "models/yolo/detect/__pycache__/compress.cpython-39.pyc": "compiled",
        },
        [STAR],
    ),
    "HUSTLYRM/Hust-Radar-2024": (
        {**EXTRA, DETECT: RECIPE, "models/yolo/segment/compress.py": RECIPE, "nn/extra_modules/MyPruner.py": ""},
        [STAR],
    ),
    "XIXI1029/waveformAnalysis": ({DETECT: RECIPE, "models/yolo/segment/compress.py": RECIPE, HYP: "lr0: 0.01\n"}, []),
    "yuchenwu73/LRS-DETR": ({**EXTRA, "models/rtdetr/compress.py": RECIPE, HYP: "lr0: 0.01\n"}, [STAR]),
    "HayashiKatsura/yolo-detect": (
        {**EXTRA, DETECT: RECIPE, "models/yolo/detect/c2f_transfer.py": "", "models/yolo/detect/distill.py": ""},
        [STAR],
    ),
    "xuan07472/ultralytics": ({DETECT: RECIPE, HYP: "lr0: 0.01\n", "nn/backbone/__init__.py": ""}, []),
    "nkb-tech/ultralytics": (
        {**EXTRA, DETECT: RECIPE, HYP: "lr0: 0.01\n", "nn/backbone/fasternet.py": ""},
        [STAR, ("cfg/default.yaml", "\nprune_method:\nspeed_up: 2.0\n")],
    ),
}
KEYS_OF_ITS_OWN = "nkb-tech/ultralytics"
IN_USE = """
from ultralytics import YOLO, cfg
assert cfg.__file__.startswith({fork!r}) and "compress" not in cfg.MODES
assert YOLO("yolov8n.yaml").task == "detect"
try:
    from ultralytics.models.yolo.detect.compress import DetectionCompressor, DetectionFinetune
except ImportError as error:
    print(error)
else:
    from ultralytics.engine.pruning import Budget, prune_model
    pruned, record = prune_model(YOLO("yolov8n.yaml").model, Budget(speed_up=2.0), prune_method="lamp")
    print("compress" in cfg.MODES, DetectionCompressor.__mro__[1].__module__, record.reached >= 2)
"""


def hash_tree(folder):
    """Return the SHA-256 of every file, by path."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def run(*arguments, status=0):
    """Return what the script prints; `-I -S` is an interpreter that finds no package at all."""
    command = [sys.executable, "-I", "-S", SCRIPT, *arguments]
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert process.returncode == status, process.stdout + process.stderr
    return process.stdout + process.stderr


@pytest.fixture
def make_fork(ultralytics_checkout, tmp_path):
    """Return a function that makes a fork of some layout."""

    def make(files, added=()):
        fork = tmp_path / "fork"
        shutil.copytree(ultralytics_checkout, fork)
        for name, text in files.items():
            (fork / "ultralytics" / name).parent.mkdir(parents=True, exist_ok=True)
            (fork / "ultralytics" / name).write_text(text, encoding="utf-8")
        for name, text in added:
            with (fork / "ultralytics" / name).open("a", encoding="utf-8") as f:
                f.write(text)
        return fork

    return make


@pytest.fixture
def fork(make_fork):
    """Return a fork that has everything that is in the way."""
    return make_fork({**EXTRA, DETECT: RECIPE, HYP: "lr0: 0.01\n"}, [STAR])


@pytest.mark.parametrize("name", also_slow(list(LAYOUTS)[3:5], [*list(LAYOUTS)[:3], *list(LAYOUTS)[5:]]))
def test_forks_keep_what_they_have(name, make_fork, stock):
    files, added = LAYOUTS[name]
    fork = make_fork(files, added)
    before = hash_tree(fork)
    printed = run(fork)
    after = hash_tree(fork)
    aside = [f"ultralytics/{file}" for file in files if drop_in.MOVABLE.fullmatch(f"ultralytics/{file}")]
    for file, digest in before.items():
        assert after[f"{file}{drop_in.ASIDE}" if file in aside else file] == digest
        assert (f"move aside {file}" in printed) == (file in aside)
    overlay = drop_in.list_checkout(ROOT)
    assert all(after[n] == drop_in.hash_of(f) for n, f in overlay.items() if n not in before or n in aside)
    seen = stock.python(IN_USE.format(fork=str(fork)), cwd=fork).splitlines()[-1]
    if name == KEYS_OF_ITS_OWN:
        assert "is off: Ultralytics" in seen and "has 'prune_method', 'speed_up' of its own" in seen
        assert "has prune_method, speed_up: take them out, or compress stays off" in printed
    else:
        assert seen == "True ultralytics.engine.compress.compressor True"
        assert "take them out" not in printed
    run(fork, "--remove")
    assert hash_tree(fork) == before
    assert {p for p in fork.rglob("*") if p.is_dir() and not any(p.iterdir())} == set()


def test_dry_runs_change_nothing(fork):
    before = hash_tree(fork)
    copying = run(fork, "--dry-run")
    assert hash_tree(fork) == before
    assert run(fork) == copying
    before = hash_tree(fork)
    removing = run(fork, "--remove", "--dry-run")
    assert hash_tree(fork) == before
    assert run(fork, "--remove") == removing


def test_a_copy_is_brought_up_to_date(fork, tmp_path):
    before = hash_tree(fork)
    new = drop_in.list_checkout(ROOT)
    old = {name: tmp_path / "old" / name for name in [*new, "ultralytics/engine/pruning/gone.py"]}
    for name, file in old.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(new[name].read_bytes() + b"\n" if name in new else b"")
    drop_in.copy(fork, old, dry_run=False)
    assert (fork / "ultralytics/engine/pruning/gone.py").exists()
    run(fork)
    after = hash_tree(fork)
    assert all(after[name] == drop_in.hash_of(file) for name, file in new.items() if name != drop_in.SHARED)
    assert "ultralytics/engine/pruning/gone.py" not in after
    assert f"0 files to copy, {len(new) - 1} up to date" in run(fork)
    run(fork, "--remove")
    assert hash_tree(fork) == before


@pytest.mark.parametrize("removing", [False, True])
def test_a_run_that_was_killed_is_finished_or_undone(fork, removing, monkeypatch):
    before = hash_tree(fork)
    overlay = drop_in.list_checkout(ROOT)
    if removing:
        drop_in.copy(fork, overlay, dry_run=False)
    work = (lambda: drop_in.remove(fork, False)) if removing else (lambda: drop_in.copy(fork, overlay, False))
    calls = {"step": 0}

    class Killed(BaseException):
        """Stands for SIGKILL."""

    def dying(function, at):
        def step(*args, **kwargs):
            calls["step"] += 1
            if calls["step"] == at:
                raise Killed
            return function(*args, **kwargs)

        return step

    for at in (1, 2, 3, 4, 40, 200):
        calls["step"] = 0
        with monkeypatch.context() as patch:
            for owner, name in ((drop_in.Path, "rename"), (drop_in.Path, "replace"), (drop_in.Path, "unlink")):
                patch.setattr(owner, name, dying(getattr(owner, name), at))
            with contextlib.suppress(Killed):
                work()
        if at % 2 and not removing:  # finished
            drop_in.copy(fork, overlay, dry_run=False)
            assert f"0 files to copy, {len(overlay) - 1} up to date" in run(fork)
        if (fork / drop_in.MANIFEST).exists():
            drop_in.remove(fork, dry_run=False)
        left = {k: v for k, v in hash_tree(fork).items() if not k.startswith(drop_in.MANIFEST)}
        assert left == before, at
        if removing:
            drop_in.copy(fork, overlay, dry_run=False)


def test_what_the_user_has_changed_since_is_left_and_named(fork):
    run(fork)
    changed = fork / "ultralytics/engine/pruning/files.py"
    own, theirs = changed.read_bytes() + b"# mine\n", fork / "ultralytics" / DETECT
    changed.write_bytes(own)
    assert "changed since they were copied: ultralytics/engine/pruning/files.py" in run(fork, status=1)
    shutil.copy(drop_in.aside_of(theirs), theirs)  # as version control does
    printed = run(fork, "--remove")
    assert "left, since it was changed after it was copied: ultralytics/engine/pruning/files.py" in printed
    assert changed.read_bytes() == own and theirs.read_text() == RECIPE
    assert not (fork / "ultralytics/engine/compress").exists()


def test_theirs_that_version_control_has_brought_back_is_replaced_again(fork):
    before = hash_tree(fork)
    run(fork)
    theirs = fork / "ultralytics" / DETECT
    shutil.copy(drop_in.aside_of(theirs), theirs)
    run(fork)
    assert theirs.read_bytes() == (ROOT / "ultralytics" / DETECT).read_bytes()
    run(fork, "--remove")
    assert hash_tree(fork) == before


def test_what_python_has_compiled_of_ours_goes_as_well(fork):
    before = hash_tree(fork)
    run(fork)
    for name in ("engine/pruning/files.py", "nn/extra_modules/prunable.py", "nn/extra_modules/block.py"):
        file = fork / "ultralytics" / name
        cache = file.parent / "__pycache__" / f"{file.stem}.{sys.implementation.cache_tag}.pyc"
        cache.parent.mkdir(exist_ok=True)
        cache.touch()
    run(fork, "--remove")
    assert set(hash_tree(fork)) - set(before) == {f"ultralytics/nn/extra_modules/__pycache__/{cache.name}"}


def version(text):
    """Return files that give a fork a version."""
    return {"__init__.py": f'__version__ = "{text}"\n'}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (version("8.1.47"), "is Ultralytics 8.1.47, and ultralytics-compress needs 8.3.0 or newer. Compress in an env"),
        (
            {"engine/pruning/groups.py": "", "engine/pruning/files.py": ""},
            "files of its own where ours go: ultralytics",
        ),
        ({DETECT: RECIPE, f"{DETECT}{drop_in.ASIDE}": ""}, f"already in .*: ultralytics/{DETECT}{drop_in.ASIDE}"),
        (
            {DETECT: RECIPE, "models/yolo/detect/__init__.py": "from .compress import DetectionCompressor\n"},
            "models/yolo/detect/__init__.py, line 1, imports compress itself",
        ),
    ],
)
def test_forks_that_cannot_take_it_are_refused_before_any_work(make_fork, files, message):
    fork = make_fork(files)
    before = hash_tree(fork)
    assert re.search(message, run(fork, status=1))
    assert hash_tree(fork) == before


def test_the_oldest_release_is_that_of_the_package():
    assert ".".join(map(str, drop_in.OLDEST)) == TESTED[0]


def test_other_folders_are_refused(make_fork, tmp_path):
    fork = make_fork({})
    assert "is no checkout of Ultralytics" in run(tmp_path, status=1)
    assert f"is no checkout of Ultralytics. Pass '{fork}'." in run(fork / "ultralytics", status=1)
    assert "there is nothing to remove" in run(fork, "--remove", status=1)


@pytest.mark.parametrize("how", ["installed", "editable"])
def test_an_installation_has_the_command_even_beside_a_broken_fork(how, request, fork):
    environment = request.getfixturevalue(how)
    (fork / "ultralytics/nn/tasks.py").write_text("raise SyntaxError", encoding="utf-8")
    before = hash_tree(fork)
    command = [environment.scripts / "python", "-m", "ultralytics_compress_drop_in", fork]
    assert "files to copy, 0 up to date" in environment.run(*command, cwd=fork).stdout
    manifest = json.loads((fork / drop_in.MANIFEST).read_text(encoding="utf-8"))
    assert set(manifest["files"]) == set(drop_in.list_checkout(ROOT)) - {drop_in.SHARED}
    environment.run(*command, "--remove")
    assert hash_tree(fork) == before
    if how == "installed":
        process = subprocess.run(
            [str(environment.scripts / "python"), "-m", "ultralytics_compress_drop_in", str(environment.site_packages)],
            env=environment.environ,
            cwd=fork,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 1 and "there is nothing to copy" in process.stderr
