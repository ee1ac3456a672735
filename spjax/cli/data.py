"""The commands `spjax cache` and `spjax tasks`, and the texts of `spjax pretrain`.

Modules are imported inside the commands, so that `spjax --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HELD_OUT_DOCUMENTS = 4000
_INSERTIONS = ("front", "after_first", "end")
_NEAR = 0.8
_WORKERS = min(os.cpu_count() or 1, 8)  # each takes about a gigabyte


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds both commands to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    made = add("cache", cache)
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--task", metavar="NAME[,NAME...]", help="tasks with all their splits")
    what.add_argument(
        "--corpus",
        metavar="NAME[=SOURCE]",
        help="text for `spjax pretrain`: c4, or NAME=FILES (.txt, .jsonl, .gz; patterns too), "
        "NAME=TFDS/CONFIG:VERSION, NAME=seqio:MODULE:TASK",
    )
    made.add_argument("--cache_dir", help="SPJAX_CACHE or ~/.cache/spjax by default")
    made.add_argument("--num_workers", type=int, default=_WORKERS, help="processes")
    made.add_argument("--vocabulary", default="", help="name or path; of tasks, their own")
    made.add_argument("--text_field", default="text", help="of a corpus's records")
    made.add_argument("--split", default="train", help="of a corpus's source")
    beam = made.add_argument_group("Apache Beam, for a corpus")
    beam.add_argument("--beam", action="store_true", help="seqio's own cacher does the work")
    beam.add_argument("--beam_python", default="", help="a Python that has apache-beam")
    beam.add_argument(
        "--pipeline_options", default="", metavar="OPTIONS", help="of the runner, in one text"
    )
    beam.add_argument(
        "--seqio_cache_dir", default="", help="where seqio's cache goes, and stays; gs:// too"
    )
    shown = add("tasks", tasks)
    shown.add_argument("name", nargs="?", default="", help="a task or file; or part of names")
    shown.add_argument("--gin_file", action="append", default=[], help="binds FileTask, for a file")
    shown.add_argument("--gin_bindings", action="append", default=[], metavar="NAME=VALUE")
    shown.add_argument("--leaks", action="store_true", help="look for inputs in several splits")
    shown.add_argument("--near", type=float, help="likeness of near duplicates, 0.8 by default")
    model = shown.add_argument_group("how a model sees it")
    model.add_argument("--model", default="", help="its size")
    model.add_argument("--checkpoint", default="", help="its weights; a vocabulary lies beside")
    model.add_argument("--vocabulary", default="", help="name or path; the task's by default")
    model.add_argument("--prompt_length", type=int, default=100)
    model.add_argument("--insertion", choices=_INSERTIONS, default="front")
    model.add_argument("--input_length", type=int, default=0, help="most tokens; the task's")
    model.add_argument("--target_length", type=int, default=0, help="most tokens; the task's")


def cache(args: argparse.Namespace) -> int:
    """Builds token caches of tasks, or tokenises a corpus, with several processes."""
    if args.num_workers < 1:
        raise ValueError(f"--num_workers is {args.num_workers}; it must be 1 or more.")
    if args.task:
        from spjax.data.token_cache import cache as tokens

        names = [name.strip() for name in args.task.split(",")]
        tokens.ensure(
            names, None, args.cache_dir, vocabulary=args.vocabulary, num_workers=args.num_workers
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


def tasks(args: argparse.Namespace) -> int:
    """Lists the tasks, or shows one: examples as the model sees them, lengths, labels, leaks."""
    from spjax.data import overview
    from spjax.data.tasks import file_task, registry

    if args.near is not None and not args.leaks:
        raise ValueError(
            f"--near={args.near} is how alike inputs are that --leaks looks for; give --leaks too."
        )
    if args.gin_file:
        info = registry.get(_file_task(args))
    elif args.gin_bindings:
        raise ValueError(
            f"the binding {args.gin_bindings[0]!r} is given and no gin file that uses it; add "
            "--gin_file=gin_configs/tasks/file.gin and name the file with --gin.TASK_FILE=PATH."
        )
    elif file_task.is_path(args.name) or registry.is_task(args.name):
        info = registry.get(args.name)
    else:
        print(_several(args))
        return 0
    view = _view(args, info)
    print(overview.facts(info) + "\n", flush=True)
    examples = overview.examples(info)
    if args.leaks:
        print(overview.leak_report(examples, _NEAR if args.near is None else args.near))
    else:
        print(overview.describe(info, examples, view), flush=True)
        overview.check(info, examples, view)
    return 0


def _several(args: argparse.Namespace) -> str:
    from spjax.data import overview
    from spjax.data.tasks import registry

    if registry.is_mixture(args.name):
        told = overview.mixture_facts(registry.mixture(args.name))
    else:
        told = overview.listing(args.name)
    if args.leaks:
        raise ValueError(
            f"--leaks looks into one task, and {args.name!r} is none; give the name of a task or "
            "the path of a file."
        )
    return told


def _file_task(args: argparse.Namespace) -> Any:
    from spjax import config

    if args.name:
        raise ValueError(
            f"both {args.name!r} and gin files are given; name the file with --gin.TASK_FILE=PATH."
        )
    config.parse(args.gin_file, args.gin_bindings)
    task = config.build("FileTask")
    given = {config.split_binding(text)[0] for text in args.gin_bindings}
    config.check_used(config.unused() & given)  # the files may be those of a whole run
    return task


def _view(args: argparse.Namespace, info: Any) -> Any:
    from spjax.cli.prompts import find_vocabulary
    from spjax.data import overview
    from spjax.vocabularies import vocabulary

    if args.model or args.checkpoint or args.vocabulary:
        words = find_vocabulary(args.vocabulary, args.model, args.checkpoint)
    else:
        words = vocabulary.load_vocabulary(info.vocabulary)
    for name in ("input_length", "target_length"):
        if getattr(args, name) and getattr(args, name) < 2:
            raise ValueError(
                f"--{name} is {getattr(args, name)}; it must be at least 2 (one token and EOS)."
            )
    return overview.View(
        words, args.prompt_length, args.insertion, args.input_length, args.target_length
    )


def texts(recipe: Any) -> tuple[Any, list[Any], Any]:
    """What a pre-training recipe reads: documents, those of each lesson, and held-out ones.

    Raises:
      ValueError: the corpus has not been built, or nothing says its vocabulary.
    """
    from spjax.vocabularies import vocabulary

    if recipe.corpus:
        from spjax.data.corpora import corpora
        from spjax.pretraining import span_corruption
        from spjax.pretraining.data import Shuffled

        words = _vocabulary(recipe)
        if recipe.span_steps:
            vocabulary.load_vocabulary(words).check_sentinels(
                span_corruption.most_spans(recipe.input_length)
            )
        corpus = corpora.load(recipe.corpus, words)
        return Shuffled(corpus, recipe.seed), [], Shuffled(corpus, recipe.seed, held_out=True)
    from spjax.pocket import corpus as pocket

    pieces = vocabulary.load_vocabulary("pocket")
    print(f"Writing {recipe.documents} documents ...", flush=True)
    documents = pocket.tokenized(recipe.seed, recipe.documents, pieces)
    lessons = [
        pocket.tokenized(recipe.seed, recipe.lesson_documents, pieces, genres)
        for genres in pocket.LESSONS[: len(recipe.lesson_steps)]
    ]
    return documents, lessons, pocket.tokenized(recipe.seed + 1, _HELD_OUT_DOCUMENTS, pieces)


def put_vocabulary_beside(recipe: Any, folder: Path) -> None:
    """Copies a corpus's vocabulary to the weights, where runs that start from them look for it."""
    if recipe.corpus:
        from spjax.checkpoints.weights import weights
        from spjax.vocabularies import vocabulary

        vocabulary.load_vocabulary(_vocabulary(recipe)).copy(folder, weights.VOCABULARY)


def _vocabulary(recipe: Any) -> str:
    from spjax.checkpoints import model_vocabulary
    from spjax.checkpoints.weights import weights

    found = recipe.vocabulary
    if not found and weights.vocabulary_of(recipe.checkpoint):
        found = model_vocabulary.of(weights.AUTO, recipe.checkpoint)
    if not found:
        raise ValueError(
            f"nothing says the vocabulary of the corpus {recipe.corpus!r}: there is no "
            f"{weights.VOCABULARY} beside INITIAL_CHECKPOINT_PATH. Give its path with "
            "--gin.Pretrain.vocabulary=PATH."
        )
    return found
