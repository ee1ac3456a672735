"""Studies: planned from gin files, trained, and drawn."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spjax import config
from spjax.api.messages import python_messages
from spjax.studies import executors, plan, runner
from spjax.studies.executor import Executor
from spjax.studies.plan import RunSpec
from spjax.studies.results import RUNS, check_folder
from spjax.studies.runner import Outcome
from spjax.studies.study import Study, load_executor, load_stored_study, load_study

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class PlannedStudy:
    """A study with its runs and its folder.

    Attributes:
      study: what the gin files say.
      specs: its runs.
      folder: that it is trained in.
      executor: that trains it.
      reused: other study folders, whose finished runs are copied where they are the same.
    """

    study: Study
    specs: Sequence[RunSpec]
    folder: Path
    executor: Executor
    reused: Sequence[Path] = ()

    def estimate(self) -> str:
        """Returns the runs that are left and their time, as a table."""
        workers = self.executor.expected_workers()
        return runner.estimate(self.specs, self.folder, workers, self.reused)

    def run(self) -> Outcome:
        """Trains what is not finished, in worker processes.

        Raises:
          ValueError: as `runner.sweep`.
        """
        return runner.sweep(
            self.study.name,
            self.specs,
            self.folder,
            executor=self.executor,
            gang_width=self.study.gang_width,
            study_text=config.config_str(self.study),
            prepare=runner.prepare_data,
            reused=self.reused,
        )

    def report(self, outcome: Outcome) -> str:
        """Returns counts, failures, and how to continue."""
        return runner.report(outcome, self.specs, self.folder)


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """A study that was trained as far as possible.

    Attributes:
      folder: with `study.gin`, `results.csv`, `runs/` and `figures/`.
      finished: number of finished runs.
      failed: messages by run key.
      report: the table of scores and the verdicts on claims, as text.
    """

    folder: Path
    finished: int
    failed: Mapping[str, str]
    report: str

    @functools.cached_property
    def results(self) -> pd.DataFrame:
        """Returns one row for each arm and run, as in `results.csv`.

        The column `item_scores` has the scores of single test items, as far as they are known.
        """
        from spjax.analysis import statistics

        return statistics.load(self.folder)

    @property
    def figures(self) -> list[Path]:
        """Returns the figures, as PNG files."""
        return sorted((self.folder / "figures").glob("*.png"))


def plan_study(
    gin_files: Sequence[str],
    bindings: Sequence[str],
    search_paths: Sequence[str],
    output_dir: str | os.PathLike[str],
    reuse: Sequence[str | os.PathLike[str]] = (),
    executor: str = executors.DEFAULT,
) -> PlannedStudy:
    """Reads a study's gin files and lists its runs.

    Args:
      gin_files: that bind `Study` and `Arm`; the later win.
      bindings: texts "NAME = value" that win over the files.
      search_paths: folders with gin files.
      output_dir: the study gets a folder in it.
      reuse: other study folders, whose finished runs are copied where they are the same.
      executor: name of a file in `spjax/studies/executors/`, without `.py`.

    Raises:
      ValueError: a file, binding, executor or figure is not known or not allowed.
    """
    from spjax.analysis import figures

    study, overrides = load_study(gin_files, bindings, search_paths)
    chosen = load_executor(executor, gin_files, bindings, search_paths)
    for name in study.figures:
        figures.get(name)
    specs = plan.expand(study, overrides, search_paths)
    sources = [Path(source) for source in reuse]
    for source in sources:
        check_folder(source, RUNS)
    return PlannedStudy(study, specs, Path(output_dir) / study.name, chosen, sources)


def finish_study(folder: Path, study: Study, figures: Sequence[str] = ()) -> str:
    """Draws a study's figures and returns its table and verdicts.

    Args:
      folder: that a sweep has written.
      study: whose runs are in it.
      figures: names of figures to draw instead of the study's.

    Raises:
      ValueError: as `spjax.analysis.report.finish`.
    """
    from spjax.analysis import report

    return report.finish(folder, study, figures)


def plot(
    *study_folders: str | os.PathLike[str],
    figures: str | Sequence[str] = (),
    output_dir: str | os.PathLike[str] = "",
) -> StudyResult:
    """Draws figures and writes the table and the verdicts of studies again, without training.

    Several studies are joined: a run that two of them have counts once.

    Args:
      study_folders: that sweeps have written.
      figures: names of figures to draw instead of those of the studies; a single text may have
        several names between commas.
      output_dir: for figures and tables; by default the folder of a single study, and for several a
        folder beside the first, named after all.

    Raises:
      ValueError: a folder is given twice or is not that of a study, its results cannot be used, two
        folders disagree, or a figure is unknown or has nothing to show.
    """
    from spjax.analysis import joined, report, statistics

    parts = figures.split(",") if isinstance(figures, str) else figures
    names = [name for part in parts if (name := part.strip())]
    folders = [Path(folder) for folder in study_folders]
    if not folders:
        raise ValueError("no study folder is given; name one or more that sweeps have written.")
    joined.check_different(folders)
    studies = {folder: _stored_study(folder) for folder in folders}
    first = folders[0]
    if output_dir or len(studies) > 1:
        together = first.parent / "+".join(folder.resolve().name for folder in folders)
        output = Path(output_dir) if output_dir else together
        text = report.finish_joined(studies, output, names)
    else:
        output = first
        text = finish_study(first, studies[first], names)
    results = statistics.load(output)
    finished = results["key"].nunique() if "key" in results.columns else len(results)
    return StudyResult(output, int(finished), {}, text)


def _stored_study(folder: Path) -> Study:
    check_folder(folder)
    return load_stored_study(folder)


def write_report(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes one HTML page of studies: verdicts, interactive figures, tables, settings.

    The page needs no network. It needs the extra `report` to be made.

    Args:
      folders: one or several that sweeps have written; several are judged together, as one study.
      output: the HTML file; by default `report.html` in the first folder.

    Returns:
      The path of the page.

    Raises:
      ValueError: the extra is not installed, a folder is not that of a study with results, several
        folders disagree, `output` does not end in .html, or it cannot be written. A page that
        stands there is then kept.
    """
    from spjax.analysis import report
    from spjax.analysis.study_page import bundle, page, sources

    bundle.check()  # nothing else is of use without it
    is_one = isinstance(folders, (str, os.PathLike))
    paths = [Path(os.fspath(x)) for x in ([folders] if is_one else folders)]  # type: ignore
    if not paths:
        raise ValueError("no study folder is given: give one or more that sweeps have written.")
    target = paths[0] / "report.html" if output is None else Path(os.fspath(output))
    if target.suffix.lower() not in (".html", ".htm") or target.is_dir():
        raise ValueError(
            f"the page cannot be {os.fspath(target)!r}: give the name of a file that ends in .html."
        )
    for path in paths:
        check_folder(path)
    studies = []
    for path in paths:
        study = sources.read(path, load_stored_study(path).name)
        report.check_study(study.results, study.name, path)
        studies.append(study)
    page.write(studies, target)
    return target


def sweep(
    gin_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    bindings: Mapping[str, Any] | None = None,
    *,
    output_dir: str | os.PathLike[str] = "results",
    workers: int | None = None,
    search_paths: Sequence[str | os.PathLike[str]] = (),
    reuse: Sequence[str | os.PathLike[str]] = (),
    executor: str = executors.DEFAULT,
) -> StudyResult:
    """Runs a study: trains what is not finished, writes the table, draws the figures.

    Args:
      gin_file: one or several files that bind `Study` and `Arm`; those of spjax are found under
        names such as "experiments/pocket/quickstart.gin".
      bindings: values by macro or "Configurable.parameter" that win over the files; a list for an
        axis replaces its values. "Ray.cpus" and the like are settings of the executor.
      output_dir: the study gets a folder in it.
      workers: by default one for each accelerator, or for each core.
      search_paths: further folders with gin files.
      reuse: other study folders: a run that one of them has finished, of the same configuration,
        weights, data and code, is copied and not trained again.
      executor: "local" for this machine, "ray" or "slurm" for a cluster.

    Raises:
      ValueError: something in the files cannot be used.
      RuntimeError: no run could be finished.
    """
    is_one = isinstance(gin_file, (str, os.PathLike))
    files = [os.fspath(file) for file in ([gin_file] if is_one else gin_file)]  # type: ignore
    with python_messages():
        paths = [os.fspath(path) for path in search_paths]
        texts = gin_texts(bindings)
        if workers is not None:
            texts.append(f"{executors.get(executor).__name__}.workers = {workers}")
        planned = plan_study(files, texts, paths, output_dir, reuse, executor)
        outcome = planned.run()
    if outcome.left and not outcome.finished and not outcome.stopped:
        return StudyResult(planned.folder, 0, outcome.failed, planned.report(outcome))
    if outcome.stopped or not outcome.finished:
        raise RuntimeError(planned.report(outcome))
    text = finish_study(planned.folder, planned.study)
    return StudyResult(planned.folder, outcome.finished, outcome.failed, text)


def gin_texts(bindings: Mapping[str, Any] | None) -> list[str]:
    """Returns the texts "NAME = value" of bindings from Python."""
    return [f"{name} = {_plain(value)!r}" for name, value in (bindings or {}).items()]


def _plain(value: Any) -> Any:
    """Returns a value with text in place of paths, which gin cannot read."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value
