"""The trained part of a run, as it is stored: soft tokens of any kind, or changes of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import run_prompts

SOFT_TOKENS = "prompt"
WEIGHT_CHANGES = ("lora/", "ia3/")  # prefixes of the names of factors and scales of kernels
MULTITASK_PARTS = frozenset({"shared", "u", "v"})  # what a multitask prompt's target stage needs


def is_soft(name: str) -> bool:
    """Returns whether `spjax.injection.Soft.arrays` could have an array of this name."""
    return name in (SOFT_TOKENS, "added") or name.startswith("prefix/")


def is_weight_change(name: str) -> bool:
    """Returns whether a tensor of this name changes a kernel of the frozen model."""
    return name.startswith(WEIGHT_CHANGES)


def is_answering(name: str) -> bool:
    """Returns whether answers depend on a tensor of this name."""
    return is_soft(name) or is_weight_change(name)


def is_storable(name: str) -> bool:
    """Returns whether a `Prompt` may hold a tensor of this name."""
    return is_answering(name) or name in MULTITASK_PARTS


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """The trained part of a run, of one task, and its provenance.

    Attributes:
      tensors: float32, finite, by name: "prompt" for soft tokens `[P, D]`, unscaled as the frozen
        model's embeddings are; the other names of `spjax.injection.Soft.arrays`; those that begin
        with one of `WEIGHT_CHANGES`; or `MULTITASK_PARTS`, which answers do not depend on. Empty
        where all weights were trained.
      provenance: for example model, task, step, validation_score, config_sha256; travels with
        the prompt through every format.
      origin: description of the source, for messages; not written to files.

    Raises:
      ValueError: a tensor has another name or shape or is not finite, or the provenance holds
        something else than strings.
    """

    tensors: Mapping[str, np.ndarray]
    provenance: Mapping[str, str] = dataclasses.field(default_factory=dict)
    origin: str = "memory"

    @classmethod
    def from_array(
        cls,
        soft_tokens_PD: np.ndarray,
        provenance: Mapping[str, str] | None = None,
        origin: str = "memory",
    ) -> Prompt:
        """Returns a prompt of soft tokens only."""
        return cls({SOFT_TOKENS: np.asarray(soft_tokens_PD)}, provenance or {}, origin)

    def __post_init__(self) -> None:
        """Checks what every format and the forward pass rely on."""
        if not isinstance(self.tensors, Mapping):
            raise ValueError(
                f"the tensors of a prompt are {type(self.tensors).__name__}; give them by name, or "
                "an array of soft tokens to Prompt.from_array."
            )
        tensors = {name: np.asarray(x) for name, x in self.tensors.items()}
        if unknown := [name for name in tensors if not is_storable(name)]:
            raise ValueError(
                f"the prompt from {self.origin} holds {', '.join(sorted(unknown)[:3])}, which is "
                f"neither soft tokens ('{SOFT_TOKENS}', 'added', 'prefix/...') nor a change of "
                f"weights ({', '.join(WEIGHT_CHANGES)})."
            )
        if any(name.startswith("prefix/") for name in tensors):
            self._check_prefixes({name for name in tensors if name.startswith("prefix/")})
        if tensors and not any(map(is_answering, tensors)):
            raise ValueError(
                f"the prompt from {self.origin} holds {', '.join(sorted(tensors))}, parts of a "
                f"multitask prompt without the soft tokens ('{SOFT_TOKENS}') made of them."
            )
        table = tensors.get(SOFT_TOKENS)
        if table is not None and (table.ndim != 2 or 0 in table.shape):
            raise ValueError(
                f"the prompt from {self.origin} has shape {table.shape}; expected two "
                "dimensions, [soft tokens, width of the model], at least (1, 1)."
            )
        checked = {
            name: array_files.widen(
                x, f"{'' if name == SOFT_TOKENS else name + ' of '}the prompt from {self.origin}"
            )
            for name, x in tensors.items()
        }
        object.__setattr__(self, "tensors", checked)
        for key, value in self.provenance.items():
            # safetensors files of PyTorch have a "format" of their own.
            if not isinstance(key, str) or not isinstance(value, str) or key == "format":
                raise ValueError(
                    f"the provenance of the prompt from {self.origin} has {key!r}: {value!r}; it "
                    "must map strings to strings, and the key 'format' is taken."
                )

    def __repr__(self) -> str:
        """Returns the shapes of the first tensors, and where they come from."""
        shapes = [f"{name} {list(x.shape)}" for name, x in self.tensors.items()]
        more = [f"{len(shapes) - 3} more"] if shapes[3:] else []
        return f"Prompt({', '.join(shapes[:3] + more)} from {self.origin!r})"

    def _check_prefixes(self, names: set[str]) -> None:
        from spjax.injection import SITES  # it imports JAX

        sites = {name.split("/")[1] for name in names} & {*SITES}
        if names != {f"prefix/{site}/{part}" for site in sites for part in ("keys", "values")}:
            raise ValueError(
                f"the prompt from {self.origin} holds {', '.join(sorted(names)[:4])}; a prefix "
                "has the two tensors prefix/SITE/keys and prefix/SITE/values, and the sites are "
                f"{', '.join(SITES)}."
            )

    @property
    def soft_tokens_PD(self) -> np.ndarray:
        """Returns the soft tokens, float32 `[P, D]`.

        Raises:
          ValueError: there are none, only other tensors.
        """
        if SOFT_TOKENS not in self.tensors:
            names = ", ".join(sorted(self.tensors)[:3]) or "no tensors"
            raise ValueError(
                f"{self.origin} holds {names}, no soft tokens that stand among the input's "
                "embeddings. Use its `tensors`."
            )
        return self.tensors[SOFT_TOKENS]

    @property
    def is_soft_tokens(self) -> bool:
        """Returns whether soft tokens are all there is, so that every format can hold it."""
        return set(self.tensors) == {SOFT_TOKENS}

    @property
    def soft(self) -> dict[str, np.ndarray]:
        """Returns the tensors that enter the forward pass beside the weights."""
        return {name: x for name, x in self.tensors.items() if is_soft(name)}

    @property
    def weight_changes(self) -> dict[str, np.ndarray]:
        """Returns the tensors that change weights, which no two prompts can share a batch with."""
        return {name: x for name, x in self.tensors.items() if is_weight_change(name)}

    def with_provenance(self, facts: Mapping[str, str]) -> Prompt:
        """Returns this prompt with more provenance, or other values of what it has."""
        return dataclasses.replace(self, provenance={**self.provenance, **facts})

    def with_base_model(self, base_model: str) -> Prompt:
        """Returns this prompt with another base model, as of `run_prompts.with_base_model`."""
        facts = run_prompts.with_base_model(self.provenance, base_model)
        return dataclasses.replace(self, provenance=facts)
