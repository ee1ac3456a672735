"""The trackers of a run, kept from harming it: one that fails is left out with one warning."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spjax.files import DamagedFile, read_json, write_json
from spjax.training import labels, trackers
from spjax.training.run import Run
from spjax.training.tracker import TrackedRun, Tracker

_log = logging.getLogger(__name__)
FILE = "trackers.json"  # ids by which trackers find the run again
_RUNS, _STUDY = "runs", "study.gin"  # of a study: the folder of its runs, a file beside it


class Trackers:
    """The open trackers of one run."""

    def __init__(self, run: Run, folder: Path, step: int) -> None:
        """Begins the run in each tracker, or continues it.

        Args:
          run: names the trackers.
          folder: of the run.
          step: that it goes on from; 0 for a new one.
        """
        self._open: dict[str, Tracker] = {}
        ids = _read_ids(folder)
        tracked = _tracked(run, folder, step)
        for name in run.trackers:
            with self._guarded(name):
                one = dataclasses.replace(tracked, id=ids.get(name, ""))
                self._open[name] = trackers.get(name)(one)
        known = {name: tracker.id for name, tracker in self._open.items() if tracker.id}
        if known.items() - ids.items():
            try:
                write_json(folder / FILE, {"ids": {**ids, **known}})
            except OSError as error:
                _log.warning("%s; a later process would begin the run anew in trackers.", error)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Reports values of a step."""
        self._each(lambda tracker: tracker.log(step, values))

    def finish(self, step: int, result: Mapping[str, Any]) -> None:
        """Reports the scores of the best step, and that the run has ended.

        Args:
          step: the last.
          result: content of `result.json`.
        """
        scores = {
            name: of_split["score"]
            for name, split in (("best/validation_score", "validation"), ("test/score", "test"))
            if (of_split := result.get(split))
        }
        if scores:
            self.log(step, scores)
        self._each(lambda tracker: tracker.finish(result["status"]))

    def close(self) -> None:
        """Sends what has not been sent."""
        while self._open:
            name, tracker = self._open.popitem()
            with self._guarded(name):
                tracker.close()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            with self._guarded(name):
                call(tracker)

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """Leaves a tracker out from now on whose call raises an error."""
        try:
            yield
        except Exception as error:
            if failed := self._open.pop(name, None):
                with contextlib.suppress(Exception):
                    failed.close()
            reason = (str(error).strip().splitlines() or [""])[0]
            _log.warning(
                "the tracker %s is left out from now on (%s: %s); the run goes on, and its "
                "metrics.jsonl has all values.",
                *(name, type(error).__name__, reason),
            )


def _tracked(run: Run, folder: Path, step: int) -> TrackedRun:
    of_run = {name: x for name, x in labels.labels_of(run).items() if x not in (None, "")}
    place = folder.absolute()
    of_study = place.parent.name == _RUNS and (place.parent.parent / _STUDY).is_file()
    project = place.parent.parent.name if of_study else ""
    return TrackedRun(
        folder=folder,
        project=project or "spjax",
        name=labels.title(labels.labels_of(run)),
        labels=of_run,
        settings=dict(_settings(run)),
        step=step,
    )


def _settings(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted names and plain values of a dataclass and of the dataclasses in it."""
    for field in dataclasses.fields(value):
        if field.name in ("parent", "name") and hasattr(value, "parent"):
            continue  # of a Flax module
        item = getattr(value, field.name)
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            yield prefix + field.name, type(item).__name__
            yield from _settings(item, f"{prefix}{field.name}.")
        else:
            plain = item is None or isinstance(item, (bool, int, float, str))
            yield prefix + field.name, item if plain else str(item)


def _read_ids(folder: Path) -> dict[str, str]:
    """Returns the ids of an earlier process; none, with a warning, where they cannot be read."""
    try:
        ids = read_json(folder / FILE)["ids"]
        return {str(name): str(known) for name, known in ids.items()}
    except FileNotFoundError:
        return {}
    except (DamagedFile, OSError, AttributeError, KeyError, TypeError) as error:
        _log.warning("%s; the trackers begin the run anew.", error)
        return {}
