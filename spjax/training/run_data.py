"""Data of a run: the tokenized splits of its task or mixture, and scores on them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grain
import numpy as np

from spjax import metrics
from spjax.checkpoints import model_vocabulary, remote
from spjax.data.batching import batching, slots
from spjax.data.batching.batching import Layout
from spjax.data.tasks.info import Mixture, TaskInfo
from spjax.data.token_cache import cache
from spjax.data.token_cache.cache import CachedSplit
from spjax.inference import scoring
from spjax.inference.scoring import Scores
from spjax.methods.base import Method
from spjax.training.run import Run

FEW_EXAMPLES = 30  # the standard error of an accuracy of 50 % is then 9 points


class RunData:
    """The tasks of a run, read with the model's vocabulary, and the shape of their rows.

    Attributes:
      mixture: the tasks.
      vocabulary: of the model.
      fields: names of the fields in the training texts, where the method has a template.
      method: the run's, with initial values that follow from labels and vocabulary.
      layout: of rows that hold every training example.
      eval_layout: of rows that hold every example; its targets have room for an answer as long as
        the longest target that is scored.
      final: the split whose scores are reported: "test", or "validation" where a task has no
        labeled test split.
    """

    def __init__(self, run: Run) -> None:
        """Builds the token caches that are missing, in one start of TensorFlow."""
        self.run, self.mixture = run, run.mixture
        self.vocabulary = run.open_model().vocabulary
        self.final = self.mixture.reported_split
        self.method: Method = run.method.resolve(
            self.mixture.class_labels, self.vocabulary.encode, len(self.mixture.trained)
        )
        wanted = needed(run)
        cache.ensure_all(wanted)
        self._splits = {
            (info.name, split): cache.load(info, split, lengths, vocabulary=vocabulary)
            for info, split, lengths, vocabulary in wanted
        }
        self._parts: dict[tuple[str, str], CachedSplit] = {}
        self.fields: tuple[str, ...] = ()
        if slots.is_template(template := self.method.insertion):
            trained = (self.split(info, "train").examples for info in self.mixture.trained)
            self.fields = tuple(slots.names_of([x["inputs_text"] for xs in trained for x in xs]))
            self._splits = {
                key: slots.insert_slots(split, template, self.vocabulary)
                for key, split in self._splits.items()
            }
        self.layout, self.eval_layout = self._layouts()

    def _layouts(self) -> tuple[Layout, Layout]:
        """Returns the layouts of training and of evaluation rows: one where both are cut alike."""
        every = list(self._splits.values())
        layout_of = functools.partial(
            batching.make_layout,
            prompt_length=self.method.prompt_length,
            insertion=self.method.insertion,
            tasks=tuple((info.name, self._number(info)) for info in self.mixture.tasks),
        )
        if self.run.eval_truncation:
            layout = layout_of(every, row_length=self.run.row_length)
            return layout, layout
        train = [split for (_, name), split in self._splits.items() if name == "train"]
        scored = [split for (_, name), split in self._splits.items() if name != "train"]
        longest = max(int(split.targets.lengths.max(initial=1)) for split in scored)
        layout = layout_of(train, row_length=self.run.row_length)
        return layout, dataclasses.replace(layout_of(every), target_length=longest)

    def split(self, info: TaskInfo, split: str) -> CachedSplit:
        """Returns a split of one of the tasks.

        Raises:
          ValueError: runs do not read it, or its targets are not known.
        """
        if (info.name, split) not in self._splits:
            known = [name for task, name in self._splits if task == info.name]
            raise ValueError(
                f"the split {split!r} of {info.name} cannot be scored; choose {' or '.join(known)}."
            )
        return self._splits[info.name, split]

    def batches(self) -> grain.DatasetIterator:
        """Returns the endless stream of training batches."""
        return batching.train_iterator(
            [self.split(info, "train") for info in self.mixture.trained],
            self.mixture.rates,
            self.layout,
            batch_size=self.run.batch_size,
            seed=self.run.seed,
            sample_splits=self.method.samples_tasks,
        )

    def positions(self, batches: int = 16) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns encoder and decoder positions of the examples of some typical batches."""
        splits = [self.split(info, "train") for info in self.mixture.trained]
        rates = np.asarray(self.mixture.rates, np.float64)
        rng = np.random.default_rng(0)  # the same for all seeds, so that they share programs
        owners = rng.choice(len(splits), (batches, self.run.batch_size), p=rates / rates.sum())
        inputs, targets = np.zeros_like(owners), np.zeros_like(owners)
        for i, split in enumerate(splits):
            is_of_split = owners == i
            chosen = rng.integers(split.num_examples, size=int(is_of_split.sum()))
            inputs[is_of_split] = split.inputs.lengths[chosen] + self.layout.slots_beside
            targets[is_of_split] = split.targets.lengths[chosen]
        return list(zip(inputs, targets))

    def longest(self) -> tuple[int, int]:
        """Returns the most encoder and decoder positions of a training example."""
        splits = [self.split(info, "train") for info in self.mixture.trained]
        inputs = max(int(split.inputs.lengths.max()) for split in splits)
        targets = max(int(split.targets.lengths.max()) for split in splits)
        return inputs + self.layout.slots_beside, targets

    def evaluate(self, answer: Callable[[CachedSplit], list[str]]) -> Scores:
        """Scores the validation examples by which checkpoints are chosen; see `score`.

        They are all of them, or a random part of each task, the same whatever the run's seed is.
        """
        limit, seed = self.run.eval_examples, self.run.eval_seed
        for info in self.mixture.scored if limit and not self._parts else ():
            whole, group = self.split(info, "validation"), metrics.GROUPS.get(info.postprocess)
            self._parts[info.name, "validation"] = whole.sample(limit, seed, group)
        return self._score({**self._splits, **self._parts}, "validation", answer)

    def score(self, split: str, answer: Callable[[CachedSplit], list[str]]) -> dict[str, float]:
        """Returns metrics in percent and `score`, over the tasks that the run is chosen by.

        Args:
          split: its name.
          answer: gives a text for each example of a split.
        """
        for info in self.mixture.scored:
            self.split(info, split)
        return self._score(self._splits, split, answer)

    def _score(
        self,
        splits: Mapping[tuple[str, str], CachedSplit],
        split: str,
        answer: Callable[[CachedSplit], list[str]],
    ) -> Scores:
        parts = {info: splits[info.name, split] for info in self.mixture.scored}
        return scoring.averaged(
            {x: scoring.score(x, answer(part), part.examples) for x, part in parts.items()}
        )

    def examples(self, split: str) -> int:
        """Returns the number of examples of a split that `score` scores."""
        return sum(self.split(info, split).num_examples for info in self.mixture.scored)

    def counts(self) -> dict[str, int]:
        """Returns the number of examples of each split that a result has scores of."""
        return {split: self.examples(split) for split in dict.fromkeys(("validation", self.final))}

    def transfer(self, answer: Callable[[CachedSplit], list[str]]) -> dict[str, Scores]:
        """Returns metrics in percent and `score` of each task that is only transferred to."""
        scores = {}
        for info in self.mixture.transfer:
            data = self.split(info, info.reported_split)
            scores[info.name] = scoring.score(info, answer(data), data.examples)
        return scores

    def majority(self) -> dict[str, float]:
        """Returns the scores of always answering with the commonest training target."""
        scores = {}
        for info in self.mixture.scored:
            data, train = self.split(info, self.final), self.train_of(info)
            values = metrics.majority(info, train.examples, data.examples)
            scores[info] = {**values, "score": metrics.score(values, info.selection)}
        return scoring.averaged(scores)

    def _number(self, info: TaskInfo) -> int:
        """Place among the trained tasks, whose prompt it has: its own, or that of one like it."""
        formats = [other.format for other in self.mixture.trained]
        if info in self.mixture.trained:
            return self.mixture.trained.index(info)
        return formats.index(info.format) if info.format in formats else 0

    def scored_splits(self, info: TaskInfo) -> list[CachedSplit]:
        """Returns all splits of a task that are scored."""
        return [
            split
            for (name, _), split in self._splits.items()
            if name == info.name and split.split != "train"
        ]

    def train_of(self, info: TaskInfo) -> CachedSplit:
        """Returns a task's training examples, or those of the task that it is another part of."""
        alike = [other for other in self.mixture.trained if other.format == info.format]
        trained = info if info in alike else (alike or self.mixture.trained)[0]
        return self.split(trained, "train")


def prepare(runs: Sequence[Run]) -> None:
    """Finds vocabularies and the files that methods read, and builds token caches of some runs.

    All of it comes before anything is trained.

    Raises:
      ValueError: a vocabulary cannot be told or does not fit its model, a file that a method reads
        is not there, or as `cache.ensure_all`.
    """
    for path in dict.fromkeys(path for run in runs for path in run.method.paths):
        if not remote.is_url(path) and not Path(path).exists():
            raise ValueError(f"cannot read {path}: No such file or directory. Check the path.")
    for models in dict.fromkeys((run.vocabulary, run.model, run.checkpoint) for run in runs):
        model_vocabulary.load(*models)
    cache.ensure_all(wanted for run in runs for wanted in needed(run))


def few_examples(mixture: Mixture) -> str:
    """Returns a warning that a run's scores are of few examples, "" where they are not."""
    counts = {}
    for split in dict.fromkeys(("validation", mixture.reported_split)):
        sizes = [dict(zip(info.splits, info.sizes)).get(split) for info in mixture.scored]
        if None not in sizes and (count := sum(size or 0 for size in sizes)) < FEW_EXAMPLES:
            counts[split] = count
    if not counts:
        return ""
    listed = " and ".join(
        f"{count} {split} example{'s' * (count != 1)}" for split, count in counts.items()
    )
    names = ", ".join(info.name for info in mixture.scored)
    return (
        f"{names} has {listed}: scores on fewer than {FEW_EXAMPLES} say little; give more rows, or "
        "larger files of these splits."
    )


def needed(run: Run) -> list[tuple[TaskInfo, str, dict[str, int], str]]:
    """Returns task, split, lengths and vocabulary of each token cache that a run reads."""
    tasks = run.mixture
    pairs = [(info, "train") for info in tasks.trained]
    for split in dict.fromkeys(("validation", tasks.reported_split)):
        pairs += [(info, split) for info in tasks.scored]
    pairs += [(info, info.reported_split) for info in tasks.transfer]
    lengths, vocabulary = lengths_of(run), run.resolved_vocabulary
    of_scored = lengths if run.eval_truncation else cache.UNCUT
    return [
        (info, split, lengths if split == "train" else of_scored, vocabulary)
        for info, split in pairs
    ]


def evaluation_lengths(run: Run) -> dict[str, int] | None:
    """Returns the most input and target tokens of a run in evaluations, EOS included.

    Texts that are not cut are as long as their token caches say; None where one is not built.
    """
    if run.eval_truncation:
        return lengths_of(run)
    return cache.longest(wanted for wanted in needed(run) if wanted[1] != "train")


def lengths_of(run: Run) -> dict[str, int]:
    """Returns the most input and target tokens of a run in training, EOS included."""
    of_tasks = run.mixture.lengths
    return {
        "inputs": run.input_length or of_tasks["inputs"],
        "targets": run.target_length or of_tasks["targets"],
    }
