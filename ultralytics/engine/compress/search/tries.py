# SPDX-License-Identifier: AGPL-3.0-or-later
"""The record of a search's tries, by which it is resumed, and by which a search for another accuracy knows them."""

from __future__ import annotations

from pathlib import Path

from ultralytics.cfg.compress.compat.files import YAML
from ultralytics.engine.compress.search.bisection import Try
from ultralytics.engine.pruning.files import written_whole

TRIES_FILE = "tries.yaml"


class Tries:
    """Which tries have begun, in their order, and which accuracy each was for; kept in the search's folder.

    Attributes:
        file (Path): The record.
        begun (dict[Try, float]): Try to the 'max_drop' of its search.
    """

    def __init__(self, folder: Path, resumed: bool):
        """Read the record of a search to resume; of another search in the same folder, begin anew."""
        self.file = folder / TRIES_FILE
        rows = YAML.load(self.file)["tries"] if resumed and self.file.exists() else []
        self.begun = {Try(row["speed_up"], row["whole"]): row["max_drop"] for row in rows}

    def begin(self, tried: Try, max_drop: float) -> None:
        """Note a try before its run begins.

        Args:
            tried (Try): The try.
            max_drop (float): The accuracy that is searched for.
        """
        self.begun.setdefault(tried, float(max_drop))
        rows = [{**begun._asdict(), "max_drop": drop} for begun, drop in self.begun.items()]
        with written_whole(self.file) as temporary:
            YAML.save(temporary, {"tries": rows})

    def of_others(self, max_drop: float) -> set[Try]:
        """Return the tries that were made for another accuracy."""
        return {tried for tried, drop in self.begun.items() if drop != max_drop}
