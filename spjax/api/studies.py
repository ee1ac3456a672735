"""Studies: planned from gin files, trained, and drawn."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spjax import config, hub
from spjax.api.messages import python_messages
from spjax.checkpoints import remote
from spjax.studies import copies, executors, plan, runner, search
from spjax.studies.executor import Executor
from spjax.studies.mirror import Mirror, working_folder
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
      url: that the folder is mirrored to; "" for none.
      overrides: texts "NAME = value" for the runs, which those of later rounds of searches get too.
      search_paths: folders with gin files.
    """

    study: Study
    specs: Sequence[RunSpec]
    folder: Path
    executor: Executor
    reused: Sequence[Path] = ()
    url: str = ""
    overrides: Sequence[str] = ()
    search_paths: Sequence[str] = ()

    def estimate(self) -> str:
        """Returns the runs that are left and their time, as a table."""
        text = runner.estimate(self.specs, self.folder, self.executor, self.reused)
        for arm in self.study.arms:
            if arm.search:
                text += (
                    f" The arm {arm.name!r} draws {arm.search.trials} trials in rounds of "
                    f"{arm.search.batch}: those of rounds to come are not among these runs."
                )
        return text

    def following(self, outcome: Outcome) -> PlannedStudy | None:
        """Returns the study with the runs that its searches draw next; None if there are none.

        Args:
          outcome: of `run`. A search does not go on without the scores of all runs it has drawn.
        """
        if outcome.stopped or outcome.failed or outcome.left:
            return None
        specs = plan.expand(self.study, self.overrides, self.search_paths, self.folder)
        is_more = {spec.key for spec in specs} > {spec.key for spec in self.specs}
        return dataclasses.replace(self, specs=specs) if is_more else None

    def mirrored(self) -> contextlib.AbstractContextManager[Mirror | None]:
        """Returns a block in which the folder is mirrored to `url`, from its state there.

        Raises:
          ValueError: on entry, as `Mirror.opened`.
        """
        if not self.url:
            return contextlib.nullcontext()
        return Mirror(self.url, self.folder, self.specs).opened()

    def run(self, mirror: Mirror | None = None) -> Outcome:
        """Trains what is not finished, in worker processes. Later rounds are those of `following`.

        Args:
          mirror: of the block that this is called in; the sweep stops when it may not write.

        Raises:
          ValueError: as `runner.sweep`, or another version of Optuna began a search.
        """
        if any(arm.search for arm in self.study.arms):
            search.check_version(self.folder, self.url)
        return runner.sweep(
            self.study.name,
            self.specs,
            self.folder,
            executor=self.executor,
            gang_width=self.study.gang_width,
            study_text=config.config_str(self.study),
            prepare=runner.prepare_data,
            reused=self.reused,
            stop_reason=mirror.problem if mirror else None,
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
    working_dir: str | os.PathLike[str] = "",
) -> PlannedStudy:
    """Reads a study's gin files and lists its runs.

    Args:
      gin_files: that bind `Study` and `Arm`; the later win.
      bindings: texts "NAME = value" that win over the files.
      search_paths: folders with gin files.
      output_dir: the study gets a folder in it; a local folder, or a URL of gs://, s3://, ...
      reuse: other study folders, whose finished runs are copied where they are the same.
      executor: name of a file in `spjax/studies/executors/`, without `.py`.
      working_dir: for a URL, the local folder in which the study is trained gets its place in it;
        "" for the cache folder.

    Raises:
      ValueError: a file, binding, executor or figure is not known or not allowed, or the executor
        cannot work for a study at a URL.
    """
    from spjax.analysis import figures

    study, overrides = load_study(gin_files, bindings, search_paths)
    macros = [name for name in config.used() if "." not in name]  # of what has just been read
    chosen = load_executor(executor, gin_files, bindings, search_paths)
    for name in study.figures:
        figures.get(name)
    url, folder = _places(os.fspath(output_dir), os.fspath(working_dir), study.name)
    specs = plan.expand(study, overrides, search_paths, folder, macros)
    for source in reuse:
        if remote.is_url(os.fspath(source)):
            raise ValueError(
                f"runs of {source} cannot be reused; copy the study to a local folder."
            )
        check_folder(Path(source), RUNS)
    sources = [Path(source) for source in reuse]
    if url:
        _check_executor(executor, chosen, bool(working_dir))
    return PlannedStudy(study, specs, folder, chosen, sources, url, overrides, search_paths)


def _places(output_dir: str, working_dir: str, name: str) -> tuple[str, Path]:
    """Returns the URL of a study, "" for none, and the local folder in which it is trained."""
    if not remote.is_url(output_dir):
        if working_dir:
            raise ValueError(
                f"--working_dir={working_dir} is for an --output_dir that is a URL, which "
                f"{output_dir} is not; leave it out."
            )
        return "", Path(output_dir) / name
    if output_dir.startswith((hub.PREFIX, "http://", "https://")):
        raise ValueError(
            f"a study cannot be written to {output_dir}; use a local folder, gs:// or s3://."
        )
    url = f"{output_dir.rstrip('/')}/{name}"
    return url, Path(working_dir) / name if working_dir else working_folder(url, name)


def _check_executor(name: str, executor: Executor, has_working_dir: bool) -> None:
    """Demands that this process sees all that the workers do, as long as they do it."""
    if executor.outlives_driver:
        raise ValueError(
            f"the executor {name!r} trains on without this process, which mirrors the study to "
            "the URL. Give a shared folder as --output_dir, and copy it at the end."
        )
    if not executor.measures and not has_working_dir:
        raise ValueError(
            f"with the executor {name!r} a study at a URL needs --working_dir=FOLDER, a folder "
            "that all machines share."
        )


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
    folders = [Path(copies.local_copy(folder)) for folder in study_folders]
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
    paths = [Path(copies.local_copy(x)) for x in ([folders] if is_one else folders)]  # type: ignore
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
    working_dir: str | os.PathLike[str] = "",
) -> StudyResult:
    """Runs a study: trains what is not finished, writes the table, draws the figures.

    Args:
      gin_file: one or several files that bind `Study` and `Arm`; those of spjax are found under
        names such as "experiments/pocket/quickstart.gin".
      bindings: values by macro or "Configurable.parameter" that win over the files; a list for an
        axis replaces its values. "Ray.cpus" and the like are settings of the executor.
      output_dir: the study gets a folder in it; a local folder, or a URL such as gs://BUCKET/FOLDER.
      workers: by default one for each accelerator, or for each core.
      search_paths: further folders with gin files.
      reuse: other study folders: a run that one of them has finished, of the same configuration,
        weights, data and code, is copied and not trained again.
      executor: "local" for this machine, "ray" or "slurm" for a cluster.
      working_dir: for a URL, the local folder in which the study is trained gets its place in it;
        "" for the cache folder.

    Raises:
      ValueError: something in the files cannot be used.
      RuntimeError: no run could be finished, or the URL does not have all that this machine has.
    """
    is_one = isinstance(gin_file, (str, os.PathLike))
    files = [os.fspath(file) for file in ([gin_file] if is_one else gin_file)]  # type: ignore
    with python_messages():
        paths = [os.fspath(path) for path in search_paths]
        texts = gin_texts(bindings)
        if workers is not None:
            texts.append(f"{executors.get(executor).__name__}.workers = {workers}")
        planned = plan_study(files, texts, paths, output_dir, reuse, executor, working_dir)
        while True:
            with planned.mirrored() as mirror:
                outcome = planned.run(mirror)
                text = planned.report(outcome)
                following = planned.following(outcome)
                if outcome.finished and not outcome.stopped and following is None:
                    text = finish_study(planned.folder, planned.study)
            if following is None or (mirror and mirror.behind):
                break
            planned = following
    if mirror and mirror.behind and not outcome.stopped:
        raise RuntimeError(mirror.behind)
    if outcome.stopped or not outcome.finished and not outcome.left:
        raise RuntimeError(text)
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
