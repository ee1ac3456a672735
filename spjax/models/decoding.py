"""Decoding: greedy, sampling, beam search, and ranking of labels.

All of them take rows of one segment each, with soft tokens of any runs and tasks in their slots,
and keep the keys and values of the positions written so far, so that a step costs one position.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from spjax import trees
from spjax.injection import Injection
from spjax.models.t5 import T5
from spjax.types import Batch, Tree

EOS = 1
KINDS = ("greedy", "beam", "sample", "rank")
RULES = ("t5x", "huggingface")
MOST_BEAMS = 1024  # their keys and values are all in memory
# Beyond these, float32 turns penalties into infinity and logits over a temperature into NaN.
_MOST_PENALTY, _LEAST_TEMPERATURE, _MOST_TEMPERATURE = 10, 1e-4, 1e4


@dataclasses.dataclass(frozen=True)
class Decoding:
    """Decoding strategy and its settings.

    Attributes:
      kind: one of `KINDS`; "rank" chooses among given labels, the others generate text.
      num_beams: for "beam", as in `beam_search`.
      length_penalty: for "beam", T5X's alpha.
      temperature: for "sample".
      top_k: for "sample"; 0 for all tokens.
      seed: for "sample", 0 or more.

    Raises:
      ValueError: an unknown kind or a number out of range.
    """

    kind: str = "greedy"
    num_beams: int = 4
    length_penalty: float = 0.6
    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks names and ranges."""
        if self.kind not in KINDS:
            raise ValueError(f"unknown decoding {self.kind!r}; use one of {', '.join(KINDS)}.")
        _check_beams(self.num_beams, self.length_penalty, "t5x")
        _check_sampling(self.temperature, self.top_k)
        if not 0 <= self.seed < 2**32:
            raise ValueError(
                f"the seed of decoding is {self.seed}; it must be 0 or more and below 2**32."
            )


def decode(
    decoding: Decoding,
    model: T5,
    weights: Tree,
    batch: Batch,
    injection: Injection | None,
    max_length: int,
    numbers_B: Array,
    labels_CM: Array,
    allowed_BC: Array,
) -> tuple[jax.Array, jax.Array]:
    """Decodes one answer for each row.

    Args:
      decoding: the strategy.
      model: the network.
      weights: its parameters.
      batch: rows of one segment each; targets are not looked at.
      injection: the soft tokens.
      max_length: most tokens to write, EOS included; labels have their own length.
      numbers_B: int32, of each row, for sampling; a row's answer depends on the seed and its
        number, not on the other rows of the batch.
      labels_CM: for "rank", as in `label_scores`; C = 0 otherwise.
      allowed_BC: bool, for "rank", the labels that each row may be given.

    Returns:
      ids `[B, M]`, int32, and scores `[B]`: the log-probability of the label for "rank", that of
      the answer over its length penalty for "beam", else NaN.
    """
    model_inputs = (model, weights, batch, injection)
    if decoding.kind == "rank":
        scores_BC = jnp.where(allowed_BC, label_scores(*model_inputs, labels_CM), -jnp.inf)
        return jnp.asarray(labels_CM)[jnp.argmax(scores_BC, axis=1)], jnp.max(scores_BC, axis=1)
    if decoding.kind == "beam":
        ids, scores = beam_search(
            *model_inputs, max_length, decoding.num_beams, decoding.length_penalty
        )
        return ids[:, 0], scores[:, 0]
    no_score_B = jnp.full(len(numbers_B), jnp.nan)
    if decoding.kind == "greedy":
        return greedy(*model_inputs, max_length), no_score_B
    keys_B = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(decoding.seed), n))(numbers_B)
    return sample(
        *model_inputs, max_length, keys_B, decoding.temperature, decoding.top_k
    ), no_score_B


def greedy(
    model: T5,
    weights: Tree,
    batch: Batch,
    injection: Injection | None,
    max_length: int,
    limit: Array | None = None,
) -> jax.Array:
    """Decodes the most probable token at each position, until every row has ended.

    Args:
      model: the network.
      weights: its parameters.
      batch: rows of one segment each; targets are not looked at.
      injection: the soft tokens.
      max_length: most tokens to write, EOS included.
      limit: a smaller number of tokens, which may be traced; None for `max_length`.

    Returns:
      ids `[B, max_length]`, int32; 0 after EOS.
    """
    return _write(
        model,
        weights,
        batch,
        injection,
        max_length,
        lambda logits_BV, index: jnp.argmax(logits_BV, axis=-1),
        limit,
    )


def sample(
    model: T5,
    weights: Tree,
    batch: Batch,
    injection: Injection | None,
    max_length: int,
    keys_B: Array,
    temperature: float = 1.0,
    top_k: int = 0,
) -> jax.Array:
    """Draws a token at each position, until every row has ended.

    Args:
      model: the network.
      weights: its parameters.
      batch: rows of one segment each; targets are not looked at.
      injection: the soft tokens.
      max_length: most tokens to write, EOS included.
      keys_B: a JAX key for each row, which alone decides its draws.
      temperature: divisor of the logits.
      top_k: number of the most probable tokens to draw from; 0 for all.

    Returns:
      ids `[B, max_length]`, int32; 0 after EOS.

    Raises:
      ValueError: temperature or top_k out of range.
    """
    _check_sampling(temperature, top_k)

    def choose(logits_BV: jax.Array, index: jax.Array) -> jax.Array:
        scaled_BV = logits_BV / temperature
        if top_k:
            least_B1 = jax.lax.top_k(scaled_BV, min(top_k, scaled_BV.shape[1]))[0][:, -1:]
            scaled_BV = jnp.where(scaled_BV < least_B1, -jnp.inf, scaled_BV)
        own_B = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, index)
        return jax.vmap(jax.random.categorical)(own_B, scaled_BV)

    return _write(model, weights, batch, injection, max_length, choose)


def _parameters(model: T5, weights: Tree) -> dict[str, Tree]:
    """Returns the parameters of `T5.apply`, layers stacked once and not at each position."""
    return {"params": trees.stack_layers(weights) if model.config.scan_layers else weights}


def _write(
    model: T5,
    weights: Tree,
    batch: Batch,
    injection: Injection | None,
    max_length: int,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    limit: Array | None = None,
) -> jax.Array:
    """Decodes ids_BM with the tokens that `choose` takes from logits_BV at each position."""
    most = max_length if limit is None else limit
    params = _parameters(model, weights)
    encoded_BLD, valid_BL = model.apply(params, batch, injection, method=T5.encode)
    cross, cached = model.apply(params, encoded_BLD, max_length, method=T5.start_decoding)
    rows = encoded_BLD.shape[0]

    def unfinished(carry: Any) -> jax.Array:
        index, _, ended_B, _, _ = carry
        return (index < most) & ~jnp.all(ended_B)

    def one(carry: Any) -> Any:
        index, tokens_B, ended_B, written_BM, cached = carry
        logits_BV, cached = model.apply(
            params,
            tokens_B,
            index,
            cross,
            cached,
            valid_BL,
            injection,
            batch.runs_BG,
            method=T5.decode_step,
        )
        tokens_B = jnp.where(ended_B, 0, choose(logits_BV, index)).astype(jnp.int32)
        written_BM = jax.lax.dynamic_update_slice_in_dim(
            written_BM, tokens_B[:, None], index, axis=1
        )
        return index + 1, tokens_B, ended_B | (tokens_B == EOS), written_BM, cached

    start = (
        jnp.int32(0),
        jnp.zeros(rows, jnp.int32),
        ~jnp.any(valid_BL, axis=1),
        jnp.zeros((rows, max_length), jnp.int32),
        cached,
    )
    return jax.lax.while_loop(unfinished, one, start)[3]


class _Beams(flax.struct.PyTreeNode):
    """State of a beam search after `index` steps; W is the number of beams.

    Attributes:
      index: tokens written in each live sequence.
      live_BWM: unfinished sequences, best first, 0 where nothing is written yet.
      live_BW: their log-probabilities; -inf where there are fewer than W.
      done_BWM: finished sequences, best first.
      done_BW: their scores; -inf where there are fewer than W.
      open_B: whether a better finished sequence may still be found.
      cached: keys and values of the live sequences, rows B * W.
    """

    index: Array
    live_BWM: Array
    live_BW: Array
    done_BWM: Array
    done_BW: Array
    open_B: Array
    cached: Any


def beam_search(
    model: T5,
    weights: Tree,
    batch: Batch,
    injection: Injection | None,
    max_length: int,
    num_beams: int = 4,
    length_penalty: float = 0.6,
    rule: str = "t5x",
    limit: Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns the best of the sequences that beam search finds.

    Both rules take, at each step, the `2 * num_beams` most probable extensions of the live
    sequences; those that do not end with EOS are the next live ones, the first `num_beams` of them.
    The rules, "t5x" (`t5x/decoding.py`) and "huggingface" (`generate` with
    `early_stopping=False`), differ in these points only:

    - The score of a sequence of n tokens, EOS included, is its log-probability divided by
      `((5 + n) / 6) ** length_penalty` for "t5x", by `n ** length_penalty` for "huggingface".
    - An extension by EOS is a finished sequence wherever it stands among the `2 * num_beams` for
      "t5x", only among the first `num_beams` for "huggingface".
    - At `max_length`, sequences without EOS count only where a row has no finished one for "t5x",
      and like finished ones for "huggingface".
    - A row is done when its worst finished score is above what the best live sequence could have
      at `max_length` for "t5x" (so nothing better is missed), above what it has now for
      "huggingface" (a guess, where the penalty favors long sequences).

    So with one beam "t5x" is not quite greedy, as in Lester et al.'s code: a runner-up EOS may end
    a sequence that wins by its score. `generate` decodes one beam greedily.

    Args:
      model: the network.
      weights: its parameters.
      batch: rows of one segment each; targets are not looked at.
      injection: the soft tokens.
      max_length: most tokens to write, EOS included.
      num_beams: W, sequences that are kept.
      length_penalty: exponent of the length; 0 for none. T5X's alpha.
      rule: one of `RULES`.
      limit: a smaller number of tokens, which may be traced; None for `max_length`.

    Returns:
      ids `[B, W, max_length]`, int32, best first (T5X's order is the reverse), 0 after EOS; and
      scores `[B, W]`, -inf where fewer were found. Where "t5x" finds no end of a row, the live
      sequences and their log-probabilities.

    Raises:
      ValueError: an unknown rule, or a number out of range.
    """
    _check_beams(num_beams, length_penalty, rule)
    most = jnp.int32(max_length) if limit is None else limit
    params = _parameters(model, weights)
    encoded_BLD, valid_BL = model.apply(params, batch, injection, method=T5.encode)
    states = model.apply(params, encoded_BLD, max_length, method=T5.start_decoding)
    axis = 1 if model.config.scan_layers else 0  # of the rows
    cross, cached = jax.tree.map(lambda x: jnp.repeat(x, num_beams, axis=axis), states)
    valid_XL = jnp.repeat(valid_BL, num_beams, axis=0)
    runs_X1 = jnp.repeat(jnp.asarray(batch.runs_BG), num_beams, axis=0)
    decode_step = functools.partial(model.apply, params, method=T5.decode_step)
    rows, real_B = encoded_BLD.shape[0], jnp.any(valid_BL, axis=1)

    def one(beams: _Beams) -> _Beams:
        last_BW = jnp.take(beams.live_BWM, beams.index - 1, axis=2, mode="fill", fill_value=0)
        last_BW = jnp.where(beams.index == 0, 0, last_BW)
        logits_XV, cached = decode_step(
            last_BW.reshape(-1), beams.index, cross, beams.cached, valid_XL, injection, runs_X1
        )
        logs_BWV = jax.nn.log_softmax(logits_XV).reshape(rows, num_beams, -1)
        beams, parents_BW = _extend(beams, logs_BWV, most, length_penalty, rule)
        own_X = (jnp.arange(rows, dtype=jnp.int32)[:, None] * num_beams + parents_BW).reshape(-1)
        return beams.replace(cached=jax.tree.map(lambda x: jnp.take(x, own_X, axis=axis), cached))

    end = jax.lax.while_loop(
        lambda beams: (beams.index < most) & jnp.any(beams.open_B),
        one,
        _first_beams(real_B, num_beams, max_length, cached),
    )
    return _best(end, real_B)


def _first_beams(real_B: Array, num_beams: int, max_length: int, cached: Any) -> _Beams:
    empty_BWM = jnp.zeros((real_B.shape[0], num_beams, max_length), jnp.int32)
    none_BW = jnp.full((real_B.shape[0], num_beams), -jnp.inf)
    first_BW = none_BW.at[:, 0].set(0.0)  # all beams start alike, so only one may live
    return _Beams(jnp.int32(0), empty_BWM, first_BW, empty_BWM, none_BW, real_B, cached)


def _best(end: _Beams, real_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns ids_BWM and scores_BW of finished sequences of a row, or live ones if none is."""
    found_B = jnp.isfinite(end.done_BW[:, 0])
    ids_BWM = jnp.where(found_B[:, None, None], end.done_BWM, end.live_BWM)
    scores_BW = jnp.where(found_B[:, None], end.done_BW, end.live_BW)
    return jnp.where(real_B[:, None, None], ids_BWM, 0), scores_BW


def _extend(
    beams: _Beams, logs_BWV: jax.Array, most: Array, length_penalty: float, rule: str
) -> tuple[_Beams, jax.Array]:
    """Returns the beams one token later, without cache, and the source of each live one."""
    rows, width, vocabulary = logs_BWV.shape
    written = beams.index + 1
    sums_BX = (logs_BWV + beams.live_BW[..., None]).reshape(rows, -1)
    logs_BC, flat_BC = jax.lax.top_k(sums_BX, min(2 * width, sums_BX.shape[1]))
    parents_BC, tokens_BC = flat_BC // vocabulary, flat_BC % vocabulary
    longer_BCM = _pick(beams.live_BWM, parents_BC).at[:, :, beams.index].set(tokens_BC)
    ends_BC = tokens_BC == EOS
    counts_BC = ends_BC & jnp.isfinite(logs_BC)
    if rule == "huggingface":
        ends_BC = ends_BC | (written == most)
        counts_BC = ends_BC & jnp.isfinite(logs_BC) & (jnp.arange(logs_BC.shape[1]) < width)

    live_BW, kept_BW = jax.lax.top_k(jnp.where(ends_BC, -jnp.inf, logs_BC), width)
    scores_BC = logs_BC / _penalty(written, length_penalty, rule)
    scores_BC = jnp.where(counts_BC & beams.open_B[:, None], scores_BC, -jnp.inf)
    done_BW, best_BW = jax.lax.top_k(jnp.concatenate([beams.done_BW, scores_BC], axis=1), width)
    done_BWM = _pick(jnp.concatenate([beams.done_BWM, longer_BCM], axis=1), best_BW)

    reach = written if rule == "huggingface" else most
    hope_B = live_BW[:, 0] / _penalty(reach, length_penalty, rule)
    open_B = beams.open_B & (hope_B >= done_BW[:, -1])
    new = _Beams(written, _pick(longer_BCM, kept_BW), live_BW, done_BWM, done_BW, open_B, None)
    return new, jnp.take_along_axis(parents_BC, kept_BW, axis=1)


def _pick(sequences_BCM: jax.Array, which_BW: jax.Array) -> jax.Array:
    return jnp.take_along_axis(sequences_BCM, which_BW[..., None], axis=1)


def _penalty(length: jax.Array, exponent: float, rule: str) -> jax.Array:
    """Returns the divisor of a log-probability; Wu et al. 2016 (equation 14) for "t5x"."""
    length = length.astype(jnp.float32)
    return (length if rule == "huggingface" else (5.0 + length) / 6.0) ** exponent


def _check_beams(num_beams: int, length_penalty: float, rule: str) -> None:
    if rule not in RULES:
        raise ValueError(f"unknown rule of beam search {rule!r}; use one of {', '.join(RULES)}.")
    if rule == "huggingface" and num_beams == 1:
        raise ValueError("num_beams is 1, which transformers decodes greedily; use greedy.")
    if not 1 <= num_beams <= MOST_BEAMS:
        raise ValueError(f"num_beams is {num_beams}; it must be 1 to {MOST_BEAMS}.")
    if not 0 <= length_penalty <= _MOST_PENALTY:  # nor NaN
        raise ValueError(
            f"the length penalty is {length_penalty}; it must be from 0 (none) to "
            f"{_MOST_PENALTY} (longer answers)."
        )


def _check_sampling(temperature: float, top_k: int) -> None:
    if not _LEAST_TEMPERATURE <= temperature <= _MOST_TEMPERATURE:  # nor NaN
        raise ValueError(
            f"the temperature is {temperature}; it must be at least {_LEAST_TEMPERATURE} and at "
            f"most {_MOST_TEMPERATURE:g} (1 leaves the model's probabilities as they are). For the "
            "most probable token use greedy decoding."
        )
    if not 0 <= top_k < 2**31:
        raise ValueError(
            f"top_k is {top_k}; it must be 1 or more and below 2**31, or 0 for all tokens."
        )


def label_scores(
    model: T5,
    weights: Tree,
    batch: Batch,
    injection: Injection | None,
    labels_CM: Array,
) -> jax.Array:
    """Returns the log-probability of each label as the whole target (rank classification).

    Args:
      model: the network.
      weights: its parameters.
      batch: rows of one segment each; targets are not looked at.
      injection: the soft tokens.
      labels_CM: token ids of the C labels, EOS included, padded with 0.

    Returns:
      scores `[B, C]`: sums over the tokens of a label.
    """
    params = _parameters(model, weights)
    encoded_BLD, valid_BL = model.apply(params, batch, injection, method=T5.encode)

    def score(label_M: Array) -> jax.Array:
        targets_BM = jnp.broadcast_to(label_M, (encoded_BLD.shape[0], label_M.shape[0]))
        real_BM = (targets_BM > 0).astype(jnp.int32)
        label_batch = batch.replace(targets_BM=targets_BM, target_segments_BM=real_BM)
        logits = model.apply(
            params, encoded_BLD, valid_BL, label_batch, injection, method=T5.decode
        )
        log_probabilities = jax.nn.log_softmax(logits)
        scores_BM = jnp.take_along_axis(log_probabilities, targets_BM[..., None], axis=-1)[..., 0]
        return jnp.sum(scores_BM * real_BM.astype(scores_BM.dtype), axis=-1)

    # One after the other: in a vmap an int8 kernel would be converted for each label.
    return jax.lax.map(score, jnp.asarray(labels_CM, jnp.int32)).T
