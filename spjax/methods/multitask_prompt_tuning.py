"""Multitask prompt tuning (Wang et al. 2023): a shared prompt times factors of each task."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from spjax import validation
from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import prompt_files
from spjax.files import expanded, file_digest
from spjax.injection import Soft
from spjax.methods.base import Encode, Method
from spjax.methods.initializers import Initializer, SampledVocabulary, Uniform, check
from spjax.types import Array, Tree

_FACTORS = ("shared", "u", "v")
_FILE = "tuned.safetensors"


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """Prompts read from files, hashable by content, so that compiled programs can be shared.

    Attributes:
      each: float32 `[P, D]` of each.
    """

    each: tuple[np.ndarray, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rows) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    @functools.cached_property
    def _digest(self) -> bytes:
        total = hashlib.sha256()
        for rows_PD in self.each:
            total.update(repr(rows_PD.shape).encode() + rows_PD.tobytes())
        return total.digest()


class MultitaskPromptTuning(Method):
    """The prompt of task s is `shared` times, element by element, low-rank `u_s v_s`.

    Source stage: `source` is empty, and the tasks of a mixture are trained together; `shared` is
    initialized as a prompt, and every `u_s v_s` near 1, so that all tasks start from it (the paper
    does not state the initialization; with PEFT's factors of 0.02 every prompt starts near 0).
    Target stage: `source` is the folder of such a run; all target tasks are initialized with
    `shared` and the averages over its tasks of u and of v (section 3.2). Both stages
    train both parts. Afterwards each task has a plain prompt.

    With `teachers`, a plain prompt of each source task (runs of prompt tuning), the loss has a term
    that imitates the model's answers under them: logits and last hidden layer (section 3.1). Each
    batch has a random number of the tasks, at least two.

    The paper has two learning rates. Here the run's is that of `shared`, and u and v are stored
    divided by `task_rate`, which makes theirs so many times larger with an optimizer whose steps
    do not depend on the scale of the gradient, as Adafactor's and Adam's.

    Attributes:
      length: P.
      rank: R; the paper's is 1.
      initializer: of the shared prompt, one of `spjax.methods.initializers`.
      source: folder of a run of the source stage, or its file `tuned.safetensors`; "" for none.
      teachers: a prompt for each source task, in the order of the mixture: run folders or prompt
        files of any format, of the same length; empty for no imitation.
      distillation: weight of the imitation in the loss.
      sample_tasks: whether each batch of a mixture is of some of its tasks only.
      task_rate: learning rate of u and v over that of the shared prompt (the paper: 0.4 over 0.3).
      tasks: S, filled in by `resolve`.
      teacher_rows: the prompts of the teachers, filled in by `resolve`.
    """

    parameter_counts: ClassVar[tuple[str, ...]] = ("P * D + S * R * (P + D)",)

    length: int = 100
    rank: int = 1
    initializer: Initializer = SampledVocabulary()
    source: str = ""
    teachers: Sequence[str] = ()
    distillation: float = 0.9
    sample_tasks: bool = True
    task_rate: float = 4 / 3
    tasks: int = 1
    teacher_rows: _Rows | None = None

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        validation.texts(self)
        if isinstance(self.teachers, str):
            raise ValueError(
                f"MultitaskPromptTuning.teachers is the text {self.teachers!r}; give a list of "
                "prompts, one for each task."
            )
        check("INITIALIZER", self.initializer)
        for name in ("length", "rank"):
            most = validation.MOST_POSITIONS
            validation.whole(f"MultitaskPromptTuning.{name}", getattr(self, name), 1, most)
        fastest = validation.MOST_RATE
        validation.number("MultitaskPromptTuning.task_rate", self.task_rate, 0, fastest, above=True)
        if self.distillation == 0:
            raise ValueError(
                "MultitaskPromptTuning.distillation is 0; it must be above 0. For no imitation "
                "leave the teachers out."
            )
        validation.number("MultitaskPromptTuning.distillation", self.distillation, 0, most)
        self.source = expanded(self.source)
        one = isinstance(self.teachers, str)
        teachers = (self.teachers,) if one else tuple(self.teachers)
        self.teachers = tuple(map(expanded, teachers))
        super().__post_init__()

    @property
    def samples_tasks(self) -> bool:
        """Returns the hyper-parameter's value."""
        return self.sample_tasks

    @property
    def prompt_length(self) -> int:
        """Returns P."""
        return self.length

    @property
    def paths(self) -> tuple[str, ...]:
        """Returns the files of the initializer, the source and the teachers."""
        return (*super().paths, *filter(None, (self.source,)), *self.teachers)

    def digest_of(self, path: str) -> str:
        """Returns the digest of a file; of the source, that of the whole file."""
        if path != self.source:
            return super().digest_of(path)
        try:
            return file_digest(_file_of(path))
        except OSError:
            return ""

    @property
    def without_identity(self) -> frozenset[str]:
        """Returns the fields left out of the run key, which has the digests of the files."""
        return frozenset({"teacher_rows"})

    def resolve(
        self, labels: Sequence[str], encode: Encode, tasks: int = 1
    ) -> MultitaskPromptTuning:
        """Encodes label words or text of the initializer, counts the tasks, reads the teachers.

        Raises:
          ValueError: there are teachers, and not as many as tasks, or they cannot be read.
        """
        if self.teachers and len(self.teachers) != tasks:
            raise ValueError(
                f"MultitaskPromptTuning.teachers has {len(self.teachers)} prompts for {tasks} "
                "tasks; give one for each task of the mixture, in its order."
            )
        initializer, rows = self.initializer.resolve(labels, encode), None
        if self.teachers:
            read = (
                prompt_files.read_soft_tokens(path, length=self.length).soft_tokens_PD
                for path in self.teachers
            )
            rows = _Rows(tuple(read))
        return self.clone(initializer=initializer, tasks=tasks, teacher_rows=rows)

    def without_initializer(self) -> MultitaskPromptTuning:
        """Returns the same method for every initializer and source."""
        return self.clone(initializer=Uniform(), source="")

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, Soft]:
        """Returns the base, and `prompt_SPD`, or `prompt_PD` for one task."""
        factors = self.param("factors", lambda rng: self._start(rng, base))
        shared_PD, u_SPR, v_SRD = self._factors(factors)
        prompt_SPD = shared_PD * (u_SPR @ v_SRD)
        soft = Soft(prompt=prompt_SPD if self.tasks > 1 else prompt_SPD[0])
        if not self.teachers:
            return base, soft
        rows = self._teachers(base["token_embedder"]["embedding"].shape[1])
        teacher = jnp.stack(rows) if self.tasks > 1 else rows[0]
        return base, soft.replace(teacher=teacher, distillation=self.distillation)

    def collapse(self, trainable: Tree, base: Tree) -> dict[str, jax.Array]:
        """Returns the plain prompts, and the factors that a target stage needs."""
        factors = self._factors(trainable["factors"])
        plain = super(MultitaskPromptTuning, self.clone(teachers=())).collapse(trainable, base)
        return {**plain, **dict(zip(_FACTORS, factors))}

    def _teachers(self, width: int) -> list[jax.Array]:
        assert self.teacher_rows is not None, "resolve the method first"
        for path, rows_PD in zip(self.teachers, self.teacher_rows.each, strict=True):
            if rows_PD.shape[1] != width:
                raise ValueError(
                    f"the teacher in {path} has a width of {rows_PD.shape[1]}, but the model has "
                    f"{width}; give prompts of this model."
                )
        return [jnp.asarray(rows_PD) for rows_PD in self.teacher_rows.each]

    def _factors(self, factors: Tree) -> tuple[jax.Array, jax.Array, jax.Array]:
        return factors["shared"], self.task_rate * factors["u"], self.task_rate * factors["v"]

    def _start(self, rng: jax.Array, base: Tree) -> dict[str, jax.Array]:
        embedding_VD = base["token_embedder"]["embedding"]
        width = embedding_VD.shape[1]
        if self.source:
            shared_PD: Array
            u_SPR: Array
            v_SRD: Array
            shared_PD, u_SPR, v_SRD = _read(self.source, (self.length, self.rank, width))
            u_PR, v_RD = u_SPR.mean(axis=0), v_SRD.mean(axis=0)
            u_SPR = np.broadcast_to(u_PR, (self.tasks, *u_PR.shape))
            v_SRD = np.broadcast_to(v_RD, (self.tasks, *v_RD.shape))
        else:
            for_shared, for_u, for_v = jax.random.split(rng, 3)
            shared_PD = self.initializer(for_shared, self.length, embedding_VD)
            first_R = jnp.eye(1, self.rank)[0]
            u_SPR = first_R + _noise(for_u, (self.tasks, self.length, self.rank))
            v_SRD = first_R[:, None] + _noise(for_v, (self.tasks, self.rank, width))
        u, v = jnp.asarray(u_SPR) / self.task_rate, jnp.asarray(v_SRD) / self.task_rate
        return {"shared": jnp.asarray(shared_PD), "u": u, "v": v}


def _noise(rng: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return 0.02 * jax.random.normal(rng, shape)


def _file_of(source: str) -> Path:
    return Path(source) / _FILE if Path(source).is_dir() else Path(source)


def _read(source: str, sizes: tuple[int, int, int]) -> list[np.ndarray]:
    """Reads shared_PD, u_SPR and v_SRD of a finished run."""
    path = _file_of(source)
    try:
        tensors, _ = array_files.read_safetensors(path)
        factors = [tensors[name] for name in _FACTORS]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"cannot read the factors of a source run from {path}: {error!r}. Give the folder of a "
            "finished run of this method."
        ) from error
    length, rank, width = sizes
    tasks = len(factors[1])
    wanted = [(length, width), (tasks, length, rank), (tasks, rank, width)]
    if [factor.shape for factor in factors] != wanted:
        raise ValueError(
            f"the factors in {path} have shapes {[factor.shape for factor in factors]}, but the "
            f"run needs {wanted}: length, rank and model must be those of the source run."
        )
    return factors
