# SPDX-License-Identifier: AGPL-3.0-or-later
"""The record of a search's tries, by which it is resumed, and by which a search for another accuracy knows them."""

from __future__ import annotations

from pathlib import Path

from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.compress.grid.folder import TRIES_FILE
from ultralytics.engine.pruning.files import written_whole


class Tries:
    """Which targets have begun, in their order, and which accuracy each was for; kept in the search's folder.

    Attributes:
        file (Path): The record.
        begun (dict[float, float]): Target to the 'max_drop' of its search.
    """

    def __init__(self, folder: Path, resumed: bool):
        """Read the record of a search to resume; of another search in the same folder, begin anew."""
        self.file = folder / TRIES_FILE
        rows = YAML.load(self.file)["tries"] if resumed and self.file.exists() else []
        # earlier versions also made short tries, which were not 'whole'
        self.begun = {row["speed_up"]: row["max_drop"] for row in rows if row.get("whole", True)}

    def begin(self, target: float, max_drop: float) -> None:
        """Note a target before its run begins.

        Args:
            target (float): The target.
            max_drop (float): The accuracy that is searched for.
        """
        self.begun.setdefault(target, float(max_drop))
        rows = [{"speed_up": target, "max_drop": drop} for target, drop in self.begun.items()]
        with written_whole(self.file) as temporary:
            YAML.save(temporary, {"tries": rows})

    def of_others(self, max_drop: float) -> set[float]:
        """Return the targets that were tried for another accuracy."""
        return {target for target, drop in self.begun.items() if drop != max_drop}
