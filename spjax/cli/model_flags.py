"""The flags of `spjax eval` and `spjax predict` for the frozen model and its answers."""

from __future__ import annotations

import argparse
from typing import Any

_KINDS = ("greedy", "beam", "sample", "rank")
_INSERTIONS = ("front", "after_first", "end")
_DTYPES = ("float32", "bfloat16", "int8")
_RULES = ("data_parallel", "tensor_parallel", "fsdp")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a parser."""
    model = parser.add_argument_group("the frozen model")
    model.add_argument("--model", default="", help="its size; the prompt's own by default")
    model.add_argument("--checkpoint", default="", help="its weights, unless they ship with spjax")
    model.add_argument("--vocabulary", default="", help="name or path of its vocabulary")
    model.add_argument("--insertion", choices=_INSERTIONS, default="", help="where the prompt goes")
    model.add_argument("--weights_dtype", choices=_DTYPES, default="", help="float32 by default")
    model.add_argument("--num_partitions", type=int, default=1, help="devices along `model`")
    model.add_argument("--logical_axis_rules", choices=_RULES, default="data_parallel")
    decoding = parser.add_argument_group("decoding")
    decoding.add_argument("--decoding", choices=_KINDS, default="greedy")
    decoding.add_argument("--num_beams", type=int, default=4)
    decoding.add_argument(
        "--length_penalty", type=float, default=0.6, help="T5X's alpha, for beams"
    )
    decoding.add_argument("--temperature", type=float, default=1.0)
    decoding.add_argument("--top_k", type=int, default=0, help="tokens to sample from; 0 for all")
    decoding.add_argument("--seed", type=int, default=0)
    decoding.add_argument(
        "--labels", default="", metavar="A,B", help="for rank; the task's by default"
    )
    decoding.add_argument("--input_length", type=int, default=0, help="most tokens; the task's")
    decoding.add_argument("--target_length", type=int, default=0, help="most tokens; the task's")
    decoding.add_argument(
        "--batch_size", type=int, default=64, help="rows that are answered at once"
    )


_ANSWERING = (
    *("decoding", "num_beams", "length_penalty", "temperature", "top_k", "seed"),
    "batch_size",
)


def changed_answer_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the flags of how answers are chosen that differ from their defaults, by name."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    defaults = parser.parse_args([])
    values = {name: getattr(args, name) for name in _ANSWERING}
    return {name: x for name, x in values.items() if x != getattr(defaults, name)}


def labels(args: argparse.Namespace) -> tuple[str, ...]:
    """Returns the labels of `--labels`, () without it."""
    return tuple(label.strip() for label in args.labels.split(",")) if args.labels else ()


def model_options(args: argparse.Namespace) -> Any:
    """Returns the `ModelOptions` of the flags."""
    from spjax.api.stored_prompts import ModelOptions

    return ModelOptions(
        args.model,
        args.checkpoint,
        args.vocabulary,
        args.weights_dtype,
        args.num_partitions,
        args.logical_axis_rules,
    )


def answer_options(args: argparse.Namespace) -> Any:
    """Returns the `AnswerOptions` of the flags."""
    from spjax.api.stored_prompts import AnswerOptions
    from spjax.models.decoding import Decoding

    decoding = Decoding(
        args.decoding,
        args.num_beams,
        args.length_penalty,
        args.temperature,
        args.top_k,
        args.seed,
    )
    return AnswerOptions(
        decoding,
        labels(args),
        args.insertion,
        args.input_length,
        args.target_length,
        args.batch_size,
    )
