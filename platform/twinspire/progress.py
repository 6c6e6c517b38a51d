"""Progress bars that a log can show too."""

from __future__ import annotations

import time
from typing import Any

import rich.progress

EVERY_S = 10.0


class Progress(rich.progress.Progress):
    """As rich's; where there is no terminal, as in a job's log, it prints where it stands every EVERY_S seconds."""

    _told = 0.0

    def start(self) -> None:
        """Begin, in silence for the first EVERY_S."""
        self._told = time.monotonic()
        super().start()

    def update(self, task_id: rich.progress.TaskID, **fields: Any) -> None:
        """As rich's."""
        super().update(task_id, **fields)
        self._tell()

    def advance(self, task_id: rich.progress.TaskID, advance: float = 1) -> None:
        """As rich's."""
        super().advance(task_id, advance)
        self._tell()

    def _tell(self) -> None:
        if self.disable or self.console.is_terminal or time.monotonic() < self._told + EVERY_S:
            return
        self._told = time.monotonic()
        for task in self.tasks:
            if not task.finished:
                self.console.print(self.make_tasks_table([task]))
