# SPDX-License-Identifier: AGPL-3.0-or-later
"""Keys of the compress mode in a trainer: beside the arguments of training, in a namespace and a file of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics import __version__ as stock_version
from ultralytics.cfg import cfg2dict, get_cfg
from ultralytics.cfg.compress import __version__
from ultralytics.cfg.compress.compat.files import YAML, get_save_dir
from ultralytics.cfg.compress.compat.keys import FOLDER
from ultralytics.cfg.compress.compat.training import CARRIES_CALLBACKS, gpu_count, is_distributed, read_dataset
from ultralytics.cfg.compress.keys import COMPRESS_FILE, check_names, get_prune_cfg, load_cfg, refusing, split
from ultralytics.engine.compress.across import AcrossNodes, Nodes
from ultralytics.engine.compress.checks.training import check_devices, check_place, check_training, find_data
from ultralytics.engine.compress.lock import lock, unlock
from ultralytics.engine.compress.recovery import recover
from ultralytics.engine.pruning.files import written_whole
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, LOCAL_RANK, LOGGER, RANK, IterableSimpleNamespace, colorstr
from ultralytics.utils.torch_utils import select_device

PLACE = ("name", "project", "save_dir")
CARRIED = "compress"  # event that never happens, whose list of callbacks takes the keys to DDP workers


class PruneArguments(AcrossNodes):
    """Keeps the keys of the compress mode off `args`, which stock code reads; stands before a task's stock trainer.

    Ultralytics writes `args` to args.yaml and to checkpoints, and checks them in validators and in the workers of a
    distributed training: it would refuse keys that it does not know.

    Attributes:
        prune_args (SimpleNamespace): All keys of the compress mode.
        given (dict[str, Any]): Those among them that the caller has given.
        claimed (Path, optional): The run's folder, once other processes are kept out of it.
        gives_texts (bool): Gives World models the embeddings of their classes.
    """

    args: SimpleNamespace
    prune_args: SimpleNamespace
    claimed: Path | None = None
    gives_texts = False

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        """Take the keys of the compress mode off the arguments and set up the stock trainer with the rest.

        Args:
            cfg (str | dict | SimpleNamespace): Configuration.
            overrides (dict, optional): Overrides of the configuration; keys of the compress mode may be in both.
            _callbacks (dict, optional): Callbacks.

        Raises:
            SyntaxError: If there is no such key.
            TypeError: If a value is of the wrong type.
            ValueError: If a value is out of range.
        """
        with refusing():
            base = {} if cfg is DEFAULT_CFG else load_cfg(cfg) if isinstance(cfg, (str, Path)) else cfg2dict(cfg)
            check_names({**base, **(overrides or {})})
            (base, of_base), (overrides, of_overrides) = split(base), split(overrides or {})
            carried = (_callbacks or {}).get(CARRIED, [{}])[0]  # in a DDP worker
            self.given = {**carried, **of_base, **of_overrides}
            self.prune_args = get_prune_cfg(self.given)
            if self.prune_args.use_ray:
                raise ValueError(
                    "'use_ray=True' is for several runs. Give a key several values, i.e. 'speed_up=[1.5,2]' of 'yolo "
                    "compress', or leave use_ray out."
                )
            check_training({key: {**base, **overrides}.get(key) for key in PLACE})  # Ultralytics makes strings of them
            overrides = self.prepare(base, overrides)
            base = {**FOLDER, **DEFAULT_CFG_DICT, **base}
            get_cfg(base, overrides)
        with ExitStack() as refused:
            refused.callback(self.release_folder)
            super().__init__(base, overrides, _callbacks)
            refused.pop_all()
        if RANK in {-1, 0}:
            if not self.resume:  # as newer trainers do
                self.csv.unlink(missing_ok=True)
            save_prune_args(self.save_dir, self.prune_args)
            values = ", ".join(f"{k}={v}" for k, v in vars(self.prune_args).items())
            LOGGER.info(f"{colorstr('compress:')} ultralytics-compress {__version__} {values}")
        # workers get the class, the arguments, the model and the callbacks, after the folder was emptied
        if is_distributed(self):
            self.callbacks[CARRIED] = [dict(vars(self.prune_args))]

    @property
    def all_args(self) -> SimpleNamespace:
        """Return the arguments of training and the keys of the compress mode together."""
        return SimpleNamespace(**vars(self.args), **vars(self.prune_args))

    def prepare(self, cfg: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
        """Check the arguments before there is a folder; subclasses add what they derive.

        Args:
            cfg (dict[str, Any]): Configuration, of training's keys.
            overrides (dict[str, Any]): Its overrides.

        Returns:
            (dict[str, Any]): Overrides for the stock trainer.
        """
        return overrides

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Find the run to resume as the stock trainer does, and read its keys of the compress mode.

        Args:
            overrides (dict[str, Any]): Overrides of training's keys.

        Raises:
            RuntimeError: If another process works in the run's folder.
            OSError: If the folder cannot be made or written to.
        """
        last = Path(self.args.resume or "").resolve() if isinstance(self.args.resume, (str, Path)) else Path()
        if last.parts[-2:] == ("weights", "last.pt") and last.parent.is_dir():
            overrides["save_dir"] = str(last.parents[1])  # of a run that was moved, too
            if LOCAL_RANK == -1:
                self.claim_folder(last.parents[1])
                recover(last, last.with_name("best.pt"))
        super().check_resume(overrides)
        if overrides.get("save_dir"):  # which older trainers do not take over
            self.args.save_dir = overrides["save_dir"]
        stock, old = split(vars(self.args))  # version 0.1.0 had all keys in one namespace
        self.args = IterableSimpleNamespace(**stock)
        if self.resume:
            run = Path(self.args.resume).parents[1]
            if (run / COMPRESS_FILE).exists():
                old = load_prune_args(run)
            elif not old:
                LOGGER.warning(f"resume: '{run / COMPRESS_FILE}' is gone, its keys are those given now or defaults")
            warn_of_ignored({k: v for k, v in self.given.items() if k in old and v != old[k]})
            self.prune_args = get_prune_cfg({**self.given, **old})
        if RANK == -1:  # a distributed run is checked by the process that starts it
            with refusing():
                if is_distributed(self) and not CARRIES_CALLBACKS:
                    raise ValueError(
                        f"'device={self.args.device}' is not supported by compress with Ultralytics {stock_version}, "
                        "which hands no callbacks to the workers of a distributed training. Name one GPU, or update "
                        "Ultralytics."
                    )
                self.device = select_device(self.args.device, verbose=False)
                check_devices(self.args, self.device, gpu_count(self) if is_distributed(self) else 1)
                self.check_run()
        self.args.save_dir = str(get_save_dir(self.args))
        if LOCAL_RANK == -1:  # workers of a distributed training have the folder of their parent
            with refusing():
                check_place(self.args.save_dir)
            self.claim_folder(Path(self.args.save_dir))

    def check_run(self) -> None:
        """Check the arguments of the run and read its data set, before there is a folder; subclasses add their own.

        Raises:
            ValueError: If a value is not valid, or the data set is not, or not for this task.
            FileNotFoundError: If there is no such data set.
        """
        check_training(vars(self.args))
        if Nodes.here() and self.args.device in {None, ""}:
            raise ValueError("'device=' must name the GPUs of each node in a run on several nodes, i.e. 'device=0,1'.")
        self.args.data = find_data(self.args.data)
        given = self.args.data
        try:
            self.data = read_dataset(self)
        except (KeyError, RuntimeError) as error:  # as Ultralytics raises whatever is wrong with a data set
            kind = FileNotFoundError if isinstance(error.__cause__, FileNotFoundError) else ValueError
            raise kind(f"'data={given}' is invalid: {error.args[0]}") from error
        self.args.data = given

    def claim_folder(self, folder: Path) -> None:
        """Keep other processes out of the run's folder, which is made for it, until `release_folder`."""
        lock(folder)
        self.claimed = folder

    @contextmanager
    def folder_held(self) -> Iterator[None]:
        """Keep other processes out of the run's folder until the block ends."""
        if LOCAL_RANK == -1:
            lock(self.save_dir)  # which a run that is over has released
        try:
            yield
        finally:
            self.release_folder()

    def release_folder(self) -> None:
        """Let other processes work in the run's folder."""
        if self.claimed:
            unlock(self.claimed)


def save_prune_args(run: Path, prune_args: SimpleNamespace) -> None:
    """Write the keys of the compress mode beside a run's args.yaml."""
    with written_whole(run / COMPRESS_FILE) as temporary:
        YAML.save(temporary, vars(prune_args))


def load_prune_args(run: Path) -> dict[str, Any]:
    """Return the keys of the compress mode of a run.

    Args:
        run (Path): Its folder.

    Returns:
        (dict[str, Any]): Values; of a run by version 0.1.0, those that are in its args.yaml.
    """
    file = run / COMPRESS_FILE
    return split(YAML.load(file if file.exists() else run / "args.yaml"))[1]


def warn_of_ignored(ignored: dict[str, Any]) -> None:
    """Say which arguments a resumed run does not take."""
    if ignored:
        LOGGER.warning(f"resume ignores {', '.join(f'{k}={v}' for k, v in ignored.items())}: the run keeps its own")
