# SPDX-License-Identifier: AGPL-3.0-or-later
"""The command line of the compress mode, read by Ultralytics' own parser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ultralytics.cfg.compress import __version__
from ultralytics.cfg.compress.compat.files import READER, YAML, load_mapping
from ultralytics.cfg.compress.compat.keys import FOLDER
from ultralytics.cfg.compress.keys import DEFAULTS, KEYS_FILE, REFUSALS, is_refusal, load_cfg, read_list, refusing
from ultralytics.cfg.compress.pages import explain
from ultralytics.utils import LOGGER, checks

EXAMPLE = """
    Make a trained model smaller and faster by structured pruning, then fine-tune it:
        yolo compress model=path/to/best.pt data=coco8.yaml speed_up=2.0 epochs=100
"""
LATENCY_EXAMPLE = """
    Write a folder with which another device measures a model's latency, for 'yolo compress budget=answer.json':
        yolo latency model=path/to/best.pt imgsz=640 runtime=ncnn
"""
LATENCY_KEYS = ("model", "runtime", "imgsz", "precision", "threads", "project", "name")


def tell_state() -> None:
    """Say, for 'yolo checks', whether the extension is on."""
    from ultralytics.cfg.compress import activation

    activation.tell_state()


AFTERWARDS: dict[str, Callable[[], None]] = {  # Ultralytics' special commands that say more with this package
    "cfg": lambda: YAML.print(KEYS_FILE),
    "version": lambda: LOGGER.info(f"ultralytics-compress {__version__}"),
    "checks": tell_state,
}


class Models(str):
    """The first of several models, which Ultralytics' parser takes for the only one.

    Attributes:
        several (list): All of them.
    """

    several: list[Any]

    @classmethod
    def of(cls, value: Any) -> Any:
        """Return the first of several models, or the value as it is if it is one."""
        if not (several := read_list("model", value)):
            return value
        models = cls(several[0])
        models.several = several
        return models


class Parsed(Exception):
    """A command on its way out of Ultralytics' entrypoint, at the place where its run would begin."""

    def __init__(self, model: Any, arguments: dict[str, Any]):
        """Keep the model and the arguments."""
        super().__init__()
        self.model, self.arguments = model, arguments


def run(cfg: ModuleType, entrypoint: Callable, debug: str) -> None:
    """Run a `yolo` command: a compress run by itself, anything else as Ultralytics does.

    The parser knows the keys of the compress mode while it reads such a command, and at no other time.

    Args:
        cfg (ModuleType): `ultralytics.cfg`.
        entrypoint (Callable): Its entrypoint.
        debug (str): The command line, by default that of the process.
    """
    words = (debug.split(" ") if debug else cfg.ARGV)[1:]
    if words and words[0].removeprefix("mode=") == "latency":
        write_bundle(cfg, words[1:], debug)
        return
    if words == ["compress"]:
        LOGGER.info(EXAMPLE)
        return
    if mode_of(cfg, words) != "compress":
        entrypoint(debug)
        if after := AFTERWARDS.get(words[0].lower().lstrip("-")) if words else None:
            after()
        return
    try:
        with refusing():
            command = parsed(cfg, entrypoint, with_model(cfg, words))
        if command:
            command.model.compress(**command.arguments)
    except (*REFUSALS, RuntimeError) as error:  # of a folder that another run works in
        if debug or not is_refusal(error):
            raise
        raise SystemExit(f"yolo compress: {explain(error)}") from None  # no traceback, and exit status 1


def write_bundle(cfg: ModuleType, words: list[str], debug: str) -> None:
    """Run `yolo latency`.

    Args:
        cfg (ModuleType): `ultralytics.cfg`.
        words (list[str]): The command without 'yolo latency'.
        debug (str): The command line, if it is not that of the process.
    """
    if not words:
        LOGGER.info(LATENCY_EXAMPLE)
        return
    try:
        with refusing():
            pairs = [word.removeprefix("--").removesuffix(",") for word in cfg.merge_equals_args(words)]
            if wrong := [pair for pair in pairs if "=" not in pair]:
                raise SyntaxError(f"'{wrong[0]}' is no argument of the form key=value, i.e.:{LATENCY_EXAMPLE}")
            if empty := [pair for pair in pairs if not pair.partition("=")[2].strip()]:
                raise SyntaxError(f"'{empty[0]}' has no value, i.e.:{LATENCY_EXAMPLE}")
            given = dict(cfg.parse_key_value_pair(pair) for pair in pairs)
            cfg.check_dict_alignment(dict.fromkeys(LATENCY_KEYS), given)
            if lacking := [key for key in LATENCY_KEYS[:2] if not given.get(key)]:
                raise SyntaxError(f"'{lacking[0]}' argument is missing, i.e.:{LATENCY_EXAMPLE}")
            from ultralytics.engine.compress.device import make_bundle

            make_bundle(**given)
    except REFUSALS as error:
        if debug or not is_refusal(error):
            raise
        raise SystemExit(f"yolo latency: {explain(error)}") from None


def parsed(cfg: ModuleType, entrypoint: Callable, words: list[str]) -> Parsed | None:
    """Return a command as Ultralytics' parser reads it, None for a special one, i.e. 'yolo compress help'."""
    try:
        with keys_known(cfg, words):
            entrypoint("")
    except Parsed as command:
        return command
    return None


def with_model(cfg: ModuleType, words: list[str]) -> list[str]:
    """Return a command that names its model, for which Ultralytics would take a pretrained one.

    Args:
        cfg (ModuleType): `ultralytics.cfg`.
        words (list[str]): The command without 'yolo'. That of a run to resume is the run's own.

    Raises:
        SyntaxError: If there is none.
    """
    pairs = [word.removeprefix("--").removesuffix(",").partition("=") for word in cfg.merge_equals_args(words)]
    given = {key: value for key, mark, value in pairs if mark}
    if not given or "model" in given:  # none: a special command, i.e. 'yolo compress help'
        return words
    if given.get("cfg"):
        file = checks.check_file(given["cfg"], download=False, hard=False)
        if not file or load_mapping(file).get("model"):  # Ultralytics reports a file that is missing
            return words
    from ultralytics.engine.compress.runs import model_of

    if model := model_of(given.get("resume", "")):
        return [*words, f"model={model}"]
    raise SyntaxError(f"'model' argument is missing. Name the model to compress, i.e.:{EXAMPLE}")


def mode_of(cfg: ModuleType, words: list[str]) -> str | None:
    """Return the mode of a command: the last one named, else the one in its configuration file.

    Args:
        cfg (ModuleType): `ultralytics.cfg`.
        words (list[str]): The command without 'yolo'.

    Returns:
        (str | None): Mode, or None if it is not there or its file cannot be found, which Ultralytics reports.
    """
    try:
        words = [word.removeprefix("--").removesuffix(",") for word in cfg.merge_equals_args(words)]
    except SyntaxError:
        return None
    for word in reversed(words):
        if (mode := word.removeprefix("mode=")) in cfg.MODES:
            return mode
    files = [word.removeprefix("cfg=") for word in words if word.startswith("cfg=")]
    file = files and checks.check_file(files[-1], download=False, hard=False)
    return load_mapping(file).get("mode") if file else None


@contextmanager
def keys_known(cfg: ModuleType, words: list[str]) -> Iterator[None]:
    """Let Ultralytics' parser read a command with the keys of the compress mode, and stop it before the run."""
    from ultralytics.cfg.compress.compat.checkpoints import LOADER
    from ultralytics.engine import model
    from ultralytics.engine.compress.checks.models import load_named_checkpoint, read_yaml

    def load_whole(file, append_filename=False):
        args = load_cfg(file)  # the args.yaml of a compress run with the file beside it
        return {key: Models.of(value) if key == "model" else value for key, value in args.items()}

    def parse(pair):
        key, value = read_pair(pair)
        return key, Models.of(value) if key == "model" else value

    reader = load_whole if READER == "yaml_load" else type("WholeYAML", (YAML,), {"load": staticmethod(load_whole)})

    def stop(self, **arguments):
        model = arguments.get("model")
        raise Parsed(self, {**arguments, **({"model": model.several} if isinstance(model, Models) else {})})

    def load(weight, *args, **kwargs):
        return load_named_checkpoint("model", weight)

    read_pair = cfg.parse_key_value_pair
    known = {**FOLDER, **cfg.DEFAULT_CFG_DICT, **DEFAULTS}
    places: list[tuple[Any, str, Any]] = [
        (cfg, "ARGV", ["yolo", *words]),
        (cfg, "DEFAULT_CFG_DICT", known),
        (cfg, READER, reader),
        (cfg, "parse_key_value_pair", parse),
        (model.Model, "compress", stop),
        (cfg, "compress", "compress"),  # older parsers evaluate the word of 'mode=compress', where it is this package
    ]
    # Ultralytics answers files that hold no model with whatever fails
    places += [(model, LOADER, load), (model, "yaml_model_load", read_yaml)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, value in places:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
