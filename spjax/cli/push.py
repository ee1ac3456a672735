"""The command `spjax push`."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("push", push)
    parser.add_argument("source", metavar="PROMPT", help="a run folder, prompt file or adapter")
    parser.add_argument("repository", metavar="REPOSITORY", help="hf://ORGANIZATION/NAME[@BRANCH]")
    parser.add_argument(
        "--base_model", default="", help="the frozen model's name on the hub, ORGANIZATION/NAME"
    )
    parser.add_argument("--license", default="", help="of the prompt, as apache-2.0")
    parser.add_argument("--private", action="store_true", help="make a new repository private")


def push(args: argparse.Namespace) -> int:
    """Uploads a prompt with a model card to the Hugging Face hub, as an adapter of PEFT.

    Examples:
      spjax push runs/boolq hf://ORGANIZATION/boolq-prompt --base_model=google/t5-base-lm-adapt
    """
    from spjax.api import prompts

    url = prompts.push_prompt(
        args.source,
        args.repository,
        base_model=args.base_model,
        license=args.license,
        private=args.private,
    )
    print(url)
    return 0
