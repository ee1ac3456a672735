"""The command `spjax tasks`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from spjax.cli import task_flags

_INSERTIONS = ("front", "after_first", "end")
_NEAR = 0.8


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("tasks", tasks)
    parser.add_argument("name", nargs="?", default="", help="a task or file; or part of names")
    parser.add_argument(
        "--gin_file", action="append", default=[], help="binds FileTask, for a file"
    )
    parser.add_argument("--gin_bindings", action="append", default=[], metavar="NAME=VALUE")
    task_flags.add_flags(parser)
    task_flags.add_labels(parser)
    parser.add_argument("--leaks", action="store_true", help="look for inputs in several splits")
    parser.add_argument("--near", type=float, help="likeness of near duplicates, 0.8 by default")
    model = parser.add_argument_group("how a model sees it")
    model.add_argument("--model", default="", help="its size")
    model.add_argument("--checkpoint", default="", help="its weights; a vocabulary lies beside")
    model.add_argument("--vocabulary", default="", help="name or path; the task's by default")
    model.add_argument("--prompt_length", type=int, default=100)
    model.add_argument("--insertion", choices=_INSERTIONS, default="front")
    model.add_argument("--input_length", type=int, default=0, help="most tokens; the task's")
    model.add_argument("--target_length", type=int, default=0, help="most tokens; the task's")


def tasks(args: argparse.Namespace) -> int:
    """Lists the tasks, or shows one: examples as the model sees them, lengths, labels, leaks.

    Examples:
      spjax tasks glue
      spjax tasks pocket_boolq --model=pocket_800k
      spjax tasks data.jsonl --leaks
      spjax tasks data/films --template="review: {text}" --target="{label}"
    """
    from spjax.data import overview
    from spjax.data.tasks import file_task, registry

    if args.near is not None and not args.leaks:
        raise ValueError(
            f"--near={args.near} is how alike inputs are that --leaks looks for; give --leaks too."
        )
    options = task_flags.file_options(args)
    if args.gin_file or options:
        info = registry.get(_file_task(args, options))
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
        text = overview.mixture_facts(registry.mixture(args.name))
    else:
        text = overview.listing(args.name)
    if args.leaks:
        raise ValueError(
            f"--leaks looks into one task, and {args.name!r} is none; give the name of a task or "
            "the path of a file."
        )
    return text


def _file_task(args: argparse.Namespace, options: dict[str, Any]) -> Any:
    from spjax import config
    from spjax.data.tasks import file_task
    from spjax.data.tasks.file_task import FileTask

    if options and (args.gin_file or not file_task.is_path(args.name)):
        raise ValueError(
            f"--{next(iter(options))} is given, which says how the rows of a file are read; give "
            "the path of a file or dataset with it, and no gin files."
        )
    if options and args.gin_bindings:
        raise ValueError(
            f"the binding {args.gin_bindings[0]!r} is given with --{next(iter(options))}; leave "
            "one of them out. Bindings belong to --gin_file=gin_configs/tasks/file.gin, which has "
            "TASK_FILE, TASK_TEMPLATE, TASK_TARGET and TASK_LABELS."
        )
    if options:
        return FileTask(args.name, **options)
    if args.name:
        raise ValueError(
            f"both {args.name!r} and gin files are given; name the file with --gin.TASK_FILE=PATH."
        )
    config.parse(args.gin_file, args.gin_bindings)
    task = config.build("FileTask")
    bound = {config.split_binding(text)[0] for text in args.gin_bindings}
    config.check_used(config.unused() & bound)  # the files may be those of a whole run
    return task


def _view(args: argparse.Namespace, info: Any) -> Any:
    from spjax.api.models import find_vocabulary
    from spjax.data import overview
    from spjax.vocabularies.vocabulary import load_vocabulary

    if args.model or args.checkpoint or args.vocabulary:
        vocabulary = find_vocabulary(args.vocabulary, args.model, args.checkpoint)
    else:
        vocabulary = load_vocabulary(info.vocabulary)
    for name in ("input_length", "target_length"):
        if getattr(args, name) and getattr(args, name) < 2:
            raise ValueError(
                f"--{name} is {getattr(args, name)}; it must be at least 2 (one token and EOS)."
            )
    return overview.View(
        vocabulary, args.prompt_length, args.insertion, args.input_length, args.target_length
    )
