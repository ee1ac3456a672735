"""Finished runs of other study folders, taken over in place of training them again."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from spjax.files import sync_tree, write_json
from spjax.studies import run_folder
from spjax.studies.plan import RunSpec
from spjax.training import code_version

NOTE = "reused.json"
_log = logging.getLogger(__name__)


def find(specs: Sequence[RunSpec], sources: Sequence[Path]) -> dict[str, Path]:
    """Returns by key the folders of finished runs that are the same as those of a plan.

    That is: an equal key, which is a hash of the configuration, of the weights' content and of the
    data's version, an equal configuration, and the present version of the code in all processes
    that trained it. Runs with a class of a file outside of spjax are not the same as any: nothing
    says what that file was.

    Args:
      specs: runs to look for.
      sources: study folders; of several that have a run the first counts.
    """
    finished: dict[str, Path] = {}
    for source in sources:
        refused: Counter[str] = Counter()
        for spec in specs:
            folder = spec.folder(source)
            if spec.key in finished or not run_folder.holds(folder, spec.text):
                continue
            if reason := _outside(spec) or _difference(folder):
                refused[reason] += 1
            else:
                finished[spec.key] = folder
        for reason, count in refused.items():
            _log.warning("%d runs in %s are not copied, but trained: %s.", count, source, reason)
    return finished


def _outside(spec: RunSpec) -> str:
    names = code_version.classes_outside(spec.run)
    return f"no version is recorded of {', '.join(names)}, which is not spjax's" if names else ""


def _difference(folder: Path) -> str:
    """Returns why a run of equal configuration cannot be taken over, "" if it can."""
    if not (folder / "result.json").is_file() or (folder / run_folder.LONGER).exists():
        return "they are not finished"
    result = run_folder.result(folder)
    if result is None or result.get("status") not in ("finished", "pruned"):
        return "they are not finished"
    if result.get("code_sha256") != [code_version.digest()]:
        return "another version of the code has trained them, in whole or in part"
    problems = run_folder.metrics_problem(folder, result), run_folder.config_problem(folder, result)
    return " ".join(filter(None, problems))


def copy(finished: dict[str, Path], specs: Sequence[RunSpec], study_folder: Path) -> None:
    """Copies the folders of finished runs into a study's folder, each as a whole or not at all.

    What an unfinished run of the same key has left there is replaced. `reused.json` in the copy
    says where it is from; of a run that was itself copied, the first place. An error or Ctrl-C
    leaves no part of a copy.

    Args:
      finished: of `find`.
      specs: of the study.
      study_folder: to copy to.

    Raises:
      OSError: a file cannot be read or written.
    """
    for cut_off in (study_folder / "runs").glob(".*.partial"):  # by a power cut
        shutil.rmtree(cut_off, ignore_errors=True)
    for spec in specs:
        if (source := finished.get(spec.key)) is None:
            continue
        target = spec.folder(study_folder)
        partial = target.with_name(f".{spec.key}.partial")
        try:
            _copy_folder(source, partial)
            if not (partial / NOTE).exists():
                write_json(partial / NOTE, {"from": str(source.resolve())})
            sync_tree(partial)  # before the copy counts as finished
            if target.exists():
                shutil.rmtree(target)
            os.rename(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _copy_folder(source: Path, target: Path) -> None:
    """Copies a folder but for locks; errors keep their number, which `shutil.copytree` drops."""
    for folder, _, names in os.walk(source, onerror=_raise, followlinks=True):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True)
        for name in names:
            if name == ".lock":
                continue
            try:
                shutil.copy2(Path(folder) / name, place / name)
            except OSError as error:
                if error.errno == errno.ENOSPC:  # shutil names the source first
                    error.filename = str(place / name)
                raise


def _raise(error: OSError) -> None:
    raise error
