"""Examples as long as those of BoolQ, RTE and WiC, with random tokens.

`QUANTILES` are measured token lengths (EOS included) of the records themselves, in T5's text form
without the task's name (`taskless_super_glue_*_v102`), with T5's SentencePiece vocabulary:

- boolq: the 3,270 of the validation split, from `data/boolq/validation.jsonl` of
  github.com/heddayam/kb-model-editing; 155 tokens on average. 0.5 % are longer than the 512 that
  T5 cuts to, and are cut here.
- rte: the 2,490 of the training split, from `data/rte` of github.com/mominabbass/LinC; 81 tokens.
- wic: the 5,428 of the training split, from `data/wic` of
  github.com/AnthonyCui7/momentum-aided-prompt-optimization, the space before punctuation taken
  out as in SuperGLUE; 30 tokens.

Lengths between two quantiles are drawn evenly. Targets are the tasks' own labels: `True` (2
tokens) or `False` (4), `entailment` (5) or `not_entailment` (6), as often as in training.

A name that begins with `pocket_` or `graded_` gives examples of that task's training split, text
and all; one such as `equal_40` gives inputs of 40 tokens and targets of 2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

LONGEST = 512  # T5's and Lester et al.'s input length on SuperGLUE
LEVELS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
QUANTILES = {
    "boolq": (32, 44, 63, 76, 103, 141, 190, 248, 292, 443, 1138),
    "rte": (16, 26, 34, 39, 50, 65, 99, 153, 177, 222, 312),
    "wic": (16, 18, 20, 22, 25, 28, 33, 39, 42, 54, 84),
}
_FEWEST_PIECES = 1000  # that every model's vocabulary has
_EOS, _FIRST, _END = 1, 3, 32_000  # ids from 3 on are pieces; from 32,000 on, sentinels
_TRUE, _FALSE = (10998, _EOS), (10747, 7, 15, _EOS)
_ENTAILMENT = (3, 35, 5756, 297, _EOS)
_LABELS = {  # ids of the two labels, and the share of the first (Lester et al. 2021, appendix)
    "boolq": (_TRUE, _FALSE, 0.623),
    "rte": (_ENTAILMENT, (59, 834, *_ENTAILMENT[1:]), 0.512),
    "wic": (_TRUE, _FALSE, 0.5),
}
Examples = tuple[list[np.ndarray], list[np.ndarray]]


def draw(name: str, count: int, seed: int = 0) -> Examples:
    """Inputs and targets of some examples: int32 ids, EOS last, unpadded.

    Raises:
      ValueError: the name is neither in `QUANTILES` nor that of a pocket or graded task.
    """
    rng = np.random.default_rng(seed)
    if name.startswith(("pocket_", "graded_")):
        return _pocket(name, count, rng)
    if length := _equal_length(name):
        inputs_NL = rng.integers(_FIRST, _FEWEST_PIECES, (count, length), np.int32)
        inputs_NL[:, -1] = _EOS
        return list(inputs_NL), [np.array([_FIRST, _EOS], np.int32)] * count
    if name not in QUANTILES:
        raise ValueError(
            f"no lengths are known for {name!r}; use one of {', '.join(QUANTILES)}, or a pocket "
            "or graded task such as pocket_boolq"
        )
    lengths = np.interp(rng.random(count), LEVELS, QUANTILES[name]).round().astype(int)
    inputs = [
        np.append(rng.integers(_FIRST, _END, length - 1), _EOS).astype(np.int32)
        for length in np.minimum(lengths, LONGEST)
    ]
    first, second, share = _LABELS[name]
    targets = [np.array(first if u < share else second, np.int32) for u in rng.random(count)]
    return inputs, targets


def longest(name: str) -> tuple[int, int]:
    """The most tokens of an input and of a target."""
    if name in QUANTILES:
        first, second, _ = _LABELS[name]
        return min(QUANTILES[name][-1], LONGEST), max(len(first), len(second))
    if length := _equal_length(name):
        return length, 2
    from spjax.data.token_cache import cache

    split = cache.load(name, "train")
    return int(split.inputs.lengths.max()), int(split.targets.lengths.max())


def _equal_length(name: str) -> int:
    """Returns N of a name `equal_N`, 0 for others."""
    kind, _, number = name.partition("_")
    return int(number) if kind == "equal" else 0


def _pocket(name: str, count: int, rng: np.random.Generator) -> Examples:
    """Examples of a pocket or graded task in random order, over again where there are too few."""
    from spjax.data.token_cache import cache

    split = cache.load(name, "train")
    rows = np.resize(rng.permutation(split.num_examples), count)
    return [split.inputs[int(r)] for r in rows], [split.targets[int(r)] for r in rows]


def save(path: Path | str, inputs: list[np.ndarray], targets: list[np.ndarray]) -> None:
    """Writes examples for `peft_peer`: `values` and `offsets` of `inputs` and of `targets`."""
    arrays = {}
    for kind, rows in (("inputs", inputs), ("targets", targets)):
        arrays[f"{kind}_values"] = np.concatenate(rows).astype(np.int32)
        arrays[f"{kind}_offsets"] = np.cumsum([0, *map(len, rows)])
    np.savez(path, **arrays)
