"""The command `spjax cache`."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable

_WORKERS = min(os.cpu_count() or 1, 8)  # each takes about a gigabyte


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("cache", build_caches)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--task", metavar="NAME[,NAME...]", help="tasks with all their splits")
    source.add_argument(
        "--corpus",
        metavar="NAME[=SOURCE]",
        help="text for `spjax pretrain`: c4, or NAME=FILES (.txt, .jsonl, .gz; patterns too), "
        "NAME=TFDS/CONFIG:VERSION, NAME=hf://datasets/ORG/NAME, NAME=seqio:MODULE:TASK",
    )
    parser.add_argument("--cache_dir", help="SPJAX_CACHE or ~/.cache/spjax by default")
    parser.add_argument("--num_workers", type=int, default=_WORKERS, help="processes")
    parser.add_argument("--vocabulary", default="", help="name or path; of tasks, their own")
    parser.add_argument(
        "--no_eval_truncation",
        action="store_true",
        help="of tasks, cut no texts of validation and test: for runs with "
        "Run.eval_truncation = False, as paper.gin and released_code.gin have it",
    )
    parser.add_argument("--text_field", default="text", help="of a corpus's records")
    parser.add_argument("--split", default="train", help="of a corpus's source")
    beam = parser.add_argument_group("Apache Beam, for a corpus")
    beam.add_argument("--beam", action="store_true", help="seqio's own cacher does the work")
    beam.add_argument("--beam_python", default="", help="a Python that has apache-beam")
    beam.add_argument(
        "--pipeline_options", default="", metavar="OPTIONS", help="of the runner, in one text"
    )
    beam.add_argument(
        "--seqio_cache_dir", default="", help="where seqio's cache goes, and stays; gs:// too"
    )


def build_caches(args: argparse.Namespace) -> int:
    """Builds token caches of tasks, or tokenizes a corpus, with several processes.

    Runs that find the tokens of their tasks there start at once, also without the data's source.

    Examples:
      spjax cache --task=pocket_boolq
      spjax cache --task=super_glue_boolq_v102,super_glue_cb_v102 --num_workers=8
    """
    if args.num_workers < 1:
        raise ValueError(f"--num_workers is {args.num_workers}; it must be 1 or more.")
    if args.task:
        from spjax.data.token_cache import cache

        names = [name.strip() for name in args.task.split(",")]
        cache.ensure(
            names,
            None,
            args.cache_dir,
            vocabulary=args.vocabulary,
            num_workers=args.num_workers,
            eval_truncation=not args.no_eval_truncation,
        )
        print(f"The token caches of {', '.join(names)} are there.")
        return 0
    from spjax.data.corpora import corpora

    if not args.vocabulary:
        raise ValueError(
            "a corpus needs the vocabulary of the model it is for; give the SentencePiece file "
            "that lies beside its weights with --vocabulary=PATH, or a name such as pocket."
        )
    beam = None
    if args.beam:
        beam = corpora.Beam(args.beam_python, _options(args.pipeline_options), args.seqio_cache_dir)
    corpora.build(
        args.corpus,
        args.vocabulary,
        args.text_field,
        args.split,
        args.cache_dir,
        args.num_workers,
        beam,
        log=lambda text: print(text, flush=True),
    )
    return 0


def _options(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"--pipeline_options is {text!r}: {error}. Write it as for a shell, quotes in pairs."
        ) from error
