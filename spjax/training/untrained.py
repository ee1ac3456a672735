"""Answers of a frozen model to text that a method writes around each input; nothing is trained."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from spjax.checkpoints.prompts.prompt import Prompt
from spjax.data.tasks.info import FewShot, TaskInfo
from spjax.data.token_cache.cache import CachedSplit
from spjax.inference.prediction import Predictor, PreparedPrompt
from spjax.models.decoding import Decoding
from spjax.training.run import Run
from spjax.training.run_data import RunData
from spjax.types import Tree
from spjax.vocabularies.vocabulary import without_sentinel

Example = tuple[str, str]


class Untrained:
    """A run that is only scored.

    Attributes:
      message: what a reader of the scores has to know, "" if nothing.
    """

    def __init__(self, run: Run, tasks: RunData) -> None:
        """Draws the demonstrations of each task and cuts them to fit the rows.

        Raises:
          ValueError: a task has no labels to rank, too few examples, or no room for the template.
        """
        self.run, self.tasks, self.message = run, tasks, ""
        mixture = tasks.mixture
        self._infos = {info.name: info for info in (*mixture.scored, *mixture.transfer)}
        self._shown = {name: self._fitting(info) for name, info in self._infos.items()}

    def answer(self, base: Tree, split: CachedSplit) -> list[str]:
        """Answers all examples of a split.

        Args:
          base: the frozen weights.
          split: of one of the run's tasks.
        """
        info, method = self._infos[split.task], self.run.method
        predictor = self._predictor(base, info)
        written = functools.partial(method.written, info.name, shown=self._shown[info.name])
        inputs = [predictor.encode(written(text))[0] for text in self._texts(split)]
        size = self.run.eval_batch_size
        answers = []
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            answers += predictor.answer(part, [0] * len(part))
        return [answer.text for answer in answers]

    def answers(self, base: Tree) -> Callable[[CachedSplit], list[str]]:
        """Returns `answer` with the weights filled in, for `RunData.score`."""
        return functools.partial(self.answer, base)

    def _predictor(self, base: Tree, info: TaskInfo) -> Predictor:
        run, tasks = self.run, self.tasks
        config = run.open_model().config
        no_prompt = PreparedPrompt(Prompt({}), labels=info.labels, sentinel=info.sentinel)
        kind = run.method.decoding
        decoding = (
            Decoding("beam", run.num_beams)
            if run.num_beams and kind == "greedy"
            else Decoding(kind)
        )
        lengths = (run.row_length, tasks.eval_layout.target_length)
        return Predictor(config, base, [no_prompt], tasks.vocabulary, decoding, *lengths)

    def _texts(self, split: CachedSplit) -> list[str]:
        """The input texts as every run reads them: cut to the most tokens of an input."""
        vocabulary, max_length = self.tasks.vocabulary, split.lengths["inputs"] - 1
        texts = []
        for example in split.examples:
            ids = vocabulary.encode(example["inputs_text"])
            texts.append(
                example["inputs_text"]
                if len(ids) <= max_length
                else vocabulary.decode(ids[:max_length])
            )
        return texts

    def _fitting(self, info: TaskInfo) -> Sequence[Example]:
        """Returns as many demonstrations as there is room for beside the longest input."""
        if self.run.method.decoding == "rank" and not info.labels:
            raise ValueError(
                f"{info.name} has no labels to rank, its answers are free text. Use the decoding "
                "'greedy'."
            )
        drawn, vocabulary = self._drawn(info), self.tasks.vocabulary
        written = functools.partial(self.run.method.written, info.name)

        def tokens(text: str) -> int:
            return len(vocabulary.encode(text))

        texts = [text for split in self.tasks.scored_splits(info) for text in self._texts(split)]
        if vocabulary.unk_id in vocabulary.encode(written("")):
            self.message += (
                f"The template of {info.name} has pieces that the vocabulary lacks (<unk>). "
            )
        longest = max(tokens(written(text)) for text in texts) + 1  # EOS
        room = self.run.row_length - longest
        if room < 0:
            raise ValueError(
                f"with the template the longest input of {info.name} has {longest} tokens, and "
                f"Run.row_length is {self.run.row_length}. Use a shorter template or longer rows."
            )
        # White space ends a piece, so the tokens of parts add up.
        used = np.cumsum([tokens(f"{written(text)} {target}") for text, target in drawn])
        fitting = int(np.searchsorted(used, room, side="right"))
        if fitting < len(drawn):
            self.message += (
                f"{fitting} of {len(drawn)} demonstrations of {info.name} are shown: with all of "
                f"them the longest input has {used[-1] + longest} tokens, and Run.row_length is "
                f"{self.run.row_length}. "
            )
        return drawn[:fitting]

    def _drawn(self, info: TaskInfo) -> list[Example]:
        count, seed = self.run.method.demonstrations, self.run.seed
        if not count:
            return []
        train = self.tasks.train_of(info)
        if count > train.num_examples:
            raise ValueError(
                f"{count} demonstrations are asked for, and {info.name} has "
                f"{train.num_examples} training examples. Ask for fewer."
            )
        few = train.few(FewShot(count, balanced=bool(info.labels), seed=seed))
        order = np.random.default_rng([seed, count]).permutation(count)
        targets = [without_sentinel(few.examples[i]["targets_text"]) for i in order]
        texts = self._texts(few)
        return [(texts[i], target) for i, target in zip(order, targets)]
