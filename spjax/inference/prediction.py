"""Answers of one frozen model under stored prompts, of which each row may have another."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spjax import partitioning
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.prompts.prompt import SOFT_TOKENS, Prompt
from spjax.checkpoints.weights import weights
from spjax.data.batching import batching, slots
from spjax.data.tasks import file_task, registry
from spjax.data.tasks.info import TaskInfo
from spjax.data.token_cache import coverage
from spjax.data.token_cache.cache import CachedSplit
from spjax.data.token_cache.cache_files import Ragged
from spjax.injection import Injection, Soft, join
from spjax.models import T5, T5Config
from spjax.models.decoding import Decoding, decode, label_scores
from spjax.models.losses import token_losses
from spjax.types import Batch, Tree
from spjax.vocabularies.vocabulary import SENTINEL, Vocabulary, without_sentinel

TokenIds = Sequence[int] | np.ndarray

_LEAST_ROOM = 16  # tokens; rows are padded to this times a power of two, for few compilations
_MOST_LENGTH = 2**16  # tokens; memory is taken for as many, whatever is written
INPUT_LENGTH, TARGET_LENGTH = 512, 64  # where no task says


@dataclasses.dataclass(frozen=True)
class Answer:
    """Output for one input.

    Attributes:
      text: the answer.
      score: the log-probability of the label for "rank", the beam's score for "beam", else None.
    """

    text: str
    score: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedPrompt:
    """A stored prompt with the format of its inputs and answers.

    Attributes:
      prompt: as stored; without tensors for the frozen model alone.
      insertion: position of the soft tokens, one of `batching.INSERTIONS` or a template.
      labels: the answers that "rank" chooses from.
      sentinel: whether it was trained to begin answers with a sentinel, which they then lose.
      fields: names in the texts it was trained on, for a template (`slots.names_of`).
      lengths: its own most tokens of an input and of an answer, EOS included, where it shares
        batches with tasks of other lengths; 0 for those of all.
      row_template: what rows of its task's files were put into, `FileTask.template`; "" for others.
    """

    prompt: Prompt
    insertion: str = "front"
    labels: tuple[str, ...] = ()
    sentinel: bool = False
    fields: tuple[str, ...] = ()
    lengths: tuple[int, int] = (0, 0)
    row_template: str = ""

    @property
    def length(self) -> int:
        """Number of soft tokens."""
        return len(self.prompt.tensors.get(SOFT_TOKENS, ()))

    @property
    def soft(self) -> Soft:
        """Arrays for the forward pass, with a leading axis of one run."""
        arrays = {name: jnp.asarray(x)[None] for name, x in self.prompt.soft.items()}
        return Soft.of(arrays, self.prompt.provenance)

    @property
    def shown(self) -> tuple[str, ...]:
        """Fields of a text that a template shows; none without one."""
        template = slots.is_template(self.insertion)
        return slots.parse(self.insertion).fields if template else ()


class Predictor:
    """A frozen model and some prompts, ready to answer.

    Attributes:
      labels: for "rank", those of all prompts, in the order of `label_scores`.
    """

    def __init__(
        self,
        config: T5Config,
        base: Tree,
        prompts: Sequence[PreparedPrompt],
        vocabulary: Vocabulary,
        decoding: Decoding,
        input_length: int = INPUT_LENGTH,
        target_length: int = TARGET_LENGTH,
    ) -> None:
        """Puts prompts of any lengths into one table of rows.

        Args:
          config: of the frozen model.
          base: its weights.
          prompts: as many as wanted; each input names one by its index here.
          vocabulary: of the model.
          decoding: the way of choosing answers.
          input_length: most tokens of text, EOS included.
          target_length: most tokens of an answer, EOS included.

        Raises:
          ValueError: a prompt, the vocabulary or the labels do not fit, or a length is too short.
        """
        check(config, prompts, vocabulary, decoding, input_length, target_length)
        self.prompts, self.vocabulary, self.decoding, self.base = (
            tuple(prompts),
            vocabulary,
            decoding,
            base,
        )
        self.input_length = input_length
        self._injection = jax.tree.map(jnp.asarray, join([prompt.soft for prompt in prompts]))
        self.labels, self._labels_CM, self._allowed_NC = _labels(self.prompts, vocabulary, decoding)
        self._config = partitioning.for_devices(dataclasses.replace(config, dropout_rate=0.0))
        self._target_length = target_length
        self._decode = _program(self._config, decoding, target_length)

    def encode(self, text: str | Mapping[str, str], prompt_index: int = 0) -> tuple[list[int], int]:
        """Returns the token ids of an input, cut as in training, and their number before.

        Args:
          text: the input, or what a template shows of it by name (`PreparedPrompt.shown`).
          prompt_index: of its prompt; with a template, slots are among the ids
            (`slots.insert_slots`).

        Raises:
          ValueError: the template shows something that the text has not, or fields are given
            without a template.
        """
        prompt, max_length = self.prompts[prompt_index], self.max_lengths(prompt_index)[0]
        if prompt.shown:
            return slots.insert_slots_in_text(
                text, prompt.insertion, prompt.fields, self.vocabulary, max_length
            )
        if not isinstance(text, str):
            raise ValueError(
                f"the input is {dict(text)!r}, and prompt {prompt_index} has no template for its "
                "fields; give a single text."
            )
        ids = self.vocabulary.encode(text)
        return ids[: max_length - 1] + [self.vocabulary.eos_id], len(ids) + 1

    def max_lengths(self, prompt_index: int) -> tuple[int, int]:
        """Returns the most tokens of an input and of an answer of a prompt, EOS included."""
        inputs, targets = self.prompts[prompt_index].lengths
        everyone = self.input_length, self._target_length
        return min(inputs or everyone[0], everyone[0]), min(targets or everyone[1], everyone[1])

    def answer(
        self, inputs: Sequence[TokenIds], prompt_indices: Sequence[int], numbers: Sequence[int] = ()
    ) -> list[Answer]:
        """Answers some inputs as one batch.

        Args:
          inputs: token ids of each, as `encode` gives them for its prompt; at least one input.
          prompt_indices: of the prompt of each, in `prompts`.
          numbers: of each, from which sampling draws; by default its place.
        """
        ids, scores = self._run(
            lambda base, batch, soft, numbers_B, allowed_BC: self._decode(
                base, batch, soft, numbers_B, self._labels_CM, allowed_BC
            ),
            inputs,
            prompt_indices,
            np.asarray(numbers or range(len(inputs)), np.int32),
            self._allowed_NC[list(prompt_indices)],
        )
        return [
            Answer(self._text(row, index), None if np.isnan(score) else float(score))
            for row, index, score in zip(ids.tolist(), prompt_indices, scores, strict=True)
        ]

    def label_scores(self, inputs: Sequence[TokenIds], prompt_indices: Sequence[int]) -> np.ndarray:
        """Returns log-probabilities `[B, C]` of `labels`; -inf for labels of other prompts.

        Args:
          inputs: as of `answer`.
          prompt_indices: as of `answer`.

        Raises:
          ValueError: the way of choosing answers is not "rank", so that there are no labels.
        """
        if self.decoding.kind != "rank":
            raise ValueError(
                "only labels have probabilities to compare, and decoding is "
                f"{self.decoding.kind!r}; use 'rank'."
            )
        program = _scores_of_labels(self._config)
        scores_BC = self._run(
            lambda base, batch, soft: program(base, batch, soft, self._labels_CM),
            inputs,
            prompt_indices,
        )
        return np.where(self._allowed_NC[list(prompt_indices)], scores_BC, -np.inf)

    def log_probabilities(
        self, inputs: Sequence[TokenIds], prompt_indices: Sequence[int], texts: Sequence[str]
    ) -> np.ndarray:
        """Returns the log-probability `[B]` of a text as the whole answer to each input.

        Args:
          inputs: as of `answer`.
          prompt_indices: as of `answer`.
          texts: what each is answered; cut as answers are.
        """
        ids_BM = np.zeros((len(texts), self._target_length), np.int32)
        for row, text, index in zip(ids_BM, texts, prompt_indices, strict=True):
            ids = self.vocabulary.encode_target(text, self.prompts[index].sentinel)
            ids = [*ids, self.vocabulary.eos_id][: len(row)]
            row[: len(ids)] = ids
        return self._run(_score_of_targets(self._config), inputs, prompt_indices, ids_BM)

    def text(self, label: int, prompt: int) -> str:
        """Returns one of `labels`, by its index, as an answer under a prompt."""
        text = self.labels[label]
        return without_sentinel(text) if self.prompts[prompt].sentinel else text

    def _run(
        self,
        program: Callable[..., Any],
        inputs: Sequence[TokenIds],
        prompt_indices: Sequence[int],
        *of_rows: np.ndarray,
    ) -> Any:
        """Runs a program on some inputs and returns its outputs in their order.

        Args:
          program: from weights, batch, injection and what is given for each row to arrays.
          inputs: as of `answer`.
          prompt_indices: as of `answer`.
          *of_rows: arrays with a row for each input.
        """
        rows = 1 << (len(inputs) - 1).bit_length()  # powers of two, for few compilations
        padded = [min(i, len(inputs) - 1) for i in range(rows)]
        batch, order = self._batch([inputs[i] for i in padded], [prompt_indices[i] for i in padded])
        order = [padded[i] for i in order]
        placed = partitioning.of(self.base).put_batch(batch)
        outputs = program(self.base, placed, self._injection, *(array[order] for array in of_rows))
        row_of_input = {number: row for row, number in enumerate(order)}
        rows_in_order = [row_of_input[i] for i in range(len(inputs))]
        return jax.tree.map(lambda array: array[rows_in_order], jax.device_get(outputs))

    def _text(self, ids: Sequence[int], prompt: int) -> str:
        if self.decoding.kind != "rank":  # what comes later was not asked for
            ids = ids[: self.max_lengths(prompt)[1]]
        text = self.vocabulary.decode(ids)
        return without_sentinel(text) if self.prompts[prompt].sentinel else text

    def _batch(
        self, inputs: Sequence[TokenIds], prompt_indices: Sequence[int]
    ) -> tuple[Batch, list[int]]:
        """Rows of all prompts, prompt by prompt, and which input each row is."""
        split, room = _as_split(inputs), _LEAST_ROOM
        while room < max(sum(token >= 0 for token in ids) for ids in inputs):
            room *= 2
        parts, order = {}, []
        for number, prompt in enumerate(self.prompts):
            members = [i for i, index in enumerate(prompt_indices) if index == number]
            layout = batching.Layout(prompt.length, prompt.insertion, room, 1)
            parts[number] = batching.rows(split, np.asarray(members, np.int64), layout)
            order += members
        return Batch(**batching.gang(parts)), order


def prepare(prompt: Prompt, insertion: str = "", labels: Sequence[str] = ()) -> PreparedPrompt:
    """Returns a stored prompt with the format of its task, from its provenance.

    Args:
      prompt: from a file.
      insertion: one of `batching.INSERTIONS`; "" for the prompt's own, else "front".
      labels: what "rank" chooses from; the labels of the prompt's task by default.
    """
    facts, task = prompt.provenance, task_of(prompt)
    return PreparedPrompt(
        prompt,
        insertion or facts.get("insertion", "front"),
        tuple(labels) or (task.labels if task else ()),
        bool(task and task.sentinel),
        tuple(facts.get("fields", "").split()),
        row_template=file_task.template(task) if task else "",
    )


def task_of(prompt: Prompt) -> TaskInfo | None:
    """Returns the task that a prompt was trained on, None if it is unknown."""
    if "task_file" in prompt.provenance:
        return registry.outline(prompt.provenance["task_file"])
    name = prompt.provenance.get("task", "")
    return registry.get(name) if registry.is_task(name) else None


def doubts(prompt: Prompt, model: FrozenModel) -> list[str]:
    """Returns reasons not to use a prompt with a model: other weights, another vocabulary."""
    facts, origin = prompt.provenance, f"the prompt from {prompt.origin}"
    trained, reasons = facts.get("model", model.name), []
    if "base_sha256" not in facts or facts["base_sha256"] != model.digest:
        if trained != model.name and weights.AUTO not in (trained, model.name):
            reasons.append(f"{origin} was trained with {trained}, not with {model.name}")
        elif "base_sha256" in facts:
            reasons.append(
                f"{origin} was trained with other weights of {model.name} than these (or the same "
                "in another dtype); its answers may be worthless"
            )
    vocabulary = facts.get("vocabulary_sha256", model.vocabulary.fingerprint)
    if vocabulary != model.vocabulary.fingerprint:
        reasons.append(
            f"{origin} was trained with another vocabulary than {model.vocabulary.path}; if its "
            "ids differ, its answers are worthless. Give the right one, with --vocabulary=PATH"
        )
    return reasons


@functools.lru_cache(maxsize=8)
def _program(config: T5Config, decoding: Decoding, max_length: int) -> Callable[..., tuple]:
    model = T5(config)

    def run(
        base: Tree, batch: Batch, soft: Injection, *extra: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return decode(decoding, model, base, batch, soft, max_length, *extra)

    return jax.jit(run)


@functools.lru_cache(maxsize=8)
def _scores_of_labels(config: T5Config) -> Callable[..., jax.Array]:
    model = T5(config)

    def run(base: Tree, batch: Batch, soft: Injection, labels_CM: jax.Array) -> jax.Array:
        return label_scores(model, base, batch, soft, labels_CM)

    return jax.jit(run)


@functools.lru_cache(maxsize=8)
def _score_of_targets(config: T5Config) -> Callable[..., jax.Array]:
    model = T5(config)

    def run(base: Tree, batch: Batch, soft: Injection, targets_BM: jax.Array) -> jax.Array:
        real_BM = (targets_BM > 0).astype(jnp.int32)
        with_targets = batch.replace(targets_BM=targets_BM, target_segments_BM=real_BM)
        losses_BM = token_losses(model.apply({"params": base}, with_targets, soft), targets_BM)
        return -jnp.sum(jnp.where(real_BM > 0, losses_BM, 0.0), axis=-1)

    return jax.jit(run)


def _as_split(inputs: Sequence[TokenIds]) -> CachedSplit:
    """Token ids in the form that batching reads; nothing is on disk."""
    offsets = np.cumsum([0, *map(len, inputs)])
    values = np.concatenate([np.asarray(ids, np.int32) for ids in inputs])
    none = Ragged(np.zeros(1, np.int32), np.zeros_like(offsets))
    return CachedSplit("", "", Path(), {}, Ragged(values, offsets), none)


def _labels(
    prompts: Sequence[PreparedPrompt], vocabulary: Vocabulary, decoding: Decoding
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """All prompts' labels, labels_CM, and allowed_NC: which are whose."""
    labels_of_prompts = [
        [f"{SENTINEL} {label}" if prompt.sentinel else label for label in prompt.labels]
        for prompt in prompts
    ]
    names = (
        list(dict.fromkeys(itertools.chain(*labels_of_prompts))) if decoding.kind == "rank" else []
    )
    ids = [
        [
            *vocabulary.encode_target(without_sentinel(name), name.startswith(SENTINEL)),
            vocabulary.eos_id,
        ]
        for name in names
    ]
    labels_CM = np.zeros((len(ids), max(map(len, ids), default=1)), np.int32)
    for row, label in zip(labels_CM, ids):
        row[: len(label)] = label
    allowed = [[name in labels for name in names] for labels in labels_of_prompts]
    allowed_NC = np.asarray(allowed, bool).reshape(len(prompts), len(names))
    return tuple(names), labels_CM, allowed_NC


def check(
    config: T5Config,
    prompts: Sequence[PreparedPrompt],
    vocabulary: Vocabulary,
    decoding: Decoding,
    input_length: int,
    target_length: int,
) -> None:
    """Checks that model, prompts, vocabulary and labels fit together.

    Raises:
      ValueError: a prompt, the vocabulary or the labels do not fit, or a length is too short.
    """
    if vocabulary.size > config.vocab_size:
        raise ValueError(
            f"the vocabulary {vocabulary.path} has {vocabulary.size} ids and the model's "
            f"embedding only {config.vocab_size} rows; give the vocabulary that belongs to the "
            "model."
        )
    for name, length in (("input", input_length), ("target", target_length)):
        if not 2 <= length <= _MOST_LENGTH:
            raise ValueError(f"the {name} length is {length}; it must be 2 to {_MOST_LENGTH}.")
    for prompt in prompts:
        try:
            Soft.of({}, prompt.prompt.provenance)
        except ValueError as error:
            raise ValueError(f"{prompt.prompt.origin}: {error}") from error
        if decoding.kind == "rank":
            coverage.check_labels(prompt.labels, vocabulary, 0, prompt.sentinel)
        if slots.is_template(prompt.insertion):
            rows = slots.parse(prompt.insertion).length
            if rows != prompt.length:
                raise ValueError(
                    f"the template {prompt.insertion!r} has room for {rows} rows and the prompt "
                    f"has {prompt.length}; give the template it was trained with."
                )
        elif prompt.insertion not in batching.INSERTIONS:
            allowed = ", ".join(batching.INSERTIONS)
            raise ValueError(f"unknown insertion {prompt.insertion!r}; choose one of {allowed}.")
        _check_shapes(config, prompt)
        if decoding.kind == "rank" and not (prompt.labels and all(prompt.labels)):
            raise ValueError(
                f"the labels to rank are {list(prompt.labels)}; give at least one, none of them "
                "empty, with --labels=A,B."
            )


def _check_shapes(config: T5Config, prompt: PreparedPrompt) -> None:
    for name, table in prompt.prompt.soft.items():
        if name.startswith("prefix/"):
            stack = "encoder" if "/encoder/" in name else "decoder"
            layers = getattr(config, f"num_{stack}_layers")
            sizes = (table.shape[0], *table.shape[2:])
            needed = (layers, config.num_heads, config.head_dim)
            if sizes != needed:
                raise ValueError(
                    f"{name} is of layers, heads and head size {sizes} and the model has {needed}; "
                    "a prefix fits only the model it was trained with."
                )
        elif len(table) and table.shape[1] != config.emb_dim:
            raise ValueError(
                f"a prompt has rows of width {table.shape[1]} and the model is "
                f"{config.emb_dim} wide; a prompt fits only the model it was trained with."
            )
