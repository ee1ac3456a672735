"""Errors of gin, reworded for the author of a gin file."""

from __future__ import annotations

import errno
import re
import tokenize
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from spjax import guesses
from spjax.config.identity import parameters
from spjax.config.registry import REGISTERED

T = TypeVar("T")

_GIN_ERRORS = (ValueError, TypeError, RuntimeError, SyntaxError, OSError, tokenize.TokenError)
_T5X = ("t5x", "prompt_tuning", "flaxformer", "seqio", "t5", "__gin__")
_PRESET = "--gin_file=gin_configs/runs/pocket.gin"
_STUDY = "the gin file of a study, such as --gin_file=experiments/pocket/quickstart.gin"
_BINDERS: dict[str, dict[str, tuple[str, ...]]] = {  # what binds a parameter, as a rule
    "Run": {
        "task": (_PRESET, "--gin.MIXTURE_OR_TASK_NAME=pocket_sentiment"),
        "model": ("--gin_file=gin_configs/models/pocket.gin",),
        "method": ("--gin_file=gin_configs/methods/prompt_tuning.gin",),
        "optimizer": (_PRESET,),
    },
    "Study": {"name": ("--gin.Study.name=NAME",), "arms": (_STUDY,)},
}
_TABLE = (
    "Gin files of T5X and google-research/prompt-tuning bind the functions of those programs; "
    "`spjax translate` makes one for spjax of them (docs/t5x.md)."
)


def _binders(owner: str, missing: str) -> str:
    """Returns the flags that bind the missing parameters of a configurable."""
    flags = _BINDERS.get(owner, {})
    names = re.findall(r"'(\w+)'", missing)
    if not names or not {*names} <= flags.keys():
        return f"bind {owner}.<name> in a gin file"
    names = ["arms"] if "arms" in names else names  # a study's file has its name too
    wanted = dict.fromkeys(flag for name in names for flag in flags[name])
    return f"give {', '.join(wanted)}, or the like (`spjax configs` lists the gin files)"


def guess(name: str, known: Iterable[str]) -> str:
    """Returns the end of a sentence that suggests a known name, if one is close."""
    close = guesses.closest(name, known)
    return f"; did you mean {close!r}?" if close else "."


def explained_file(call: Callable[[], T], path: Path) -> T:
    """Runs `explained` on a call that parses a user's file.

    Raises:
      ValueError: the file is one of T5X's, does not parse, names something unknown, or imports
        a missing module.
    """
    try:
        imported = _import_of_t5x(path)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise
        raise ValueError(f"cannot read {path}: {error.strerror}.") from error
    if imported:
        raise ValueError(f"{path} is not for spjax: it has the line {imported!r}. {_TABLE}")
    try:
        return explained(call)
    except (ImportError, AttributeError, LookupError, NameError) as error:
        raise ValueError(f"cannot read {path}: {type(error).__name__}: {error}") from error
    except ValueError as error:
        included = re.search(r"Unable to open file: (\w+)/", str(error))
        if included and included[1] in _T5X:
            raise ValueError(
                f"{path} is not for spjax: it includes a file of {included[1]}. {_TABLE}"
            ) from error
        if "no Python literal" in str(error) and str(path) not in str(error):
            raise ValueError(f"cannot read {path}: {error}") from error
        raise


def _import_of_t5x(path: Path) -> str:
    """Returns the line that imports a T5X module, "" if there is none; imports nothing."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(r"(?:from|import)\s+(\w+)", line)
        if match and match[1] in _T5X:
            return line.strip()
    return ""


def explained(call: Callable[[], T], given: Iterable[str] = ()) -> T:
    """Runs `call`, turning gin's errors into messages with the known names.

    Args:
      call: what may fail.
      given: names that a user has bound, one of which may be a misspelt macro.
    """
    try:
        return call()
    except _GIN_ERRORS as error:
        text = str(error)
        if isinstance(error, OSError) and "Unable to open" not in text:
            raise
        if isinstance(error, RecursionError) or "too many nested" in text:
            text = "values are nested too deeply, or a file, macro or object is a part of itself."
        raise ValueError(explanation(text, given)) from error


def explanation(text: str, given: Iterable[str] = ()) -> str:
    """Rewords an error of gin in fewer and plainer words, with the known names; see `explained`."""
    first, *more = text.splitlines() or [""]
    listed = "".join(f"\n{line}" for line in more if line.startswith("- "))
    where = "".join(f"\n{line}" for line in more if "In file" in line)
    if match := re.match(r"No configurable matching (?:reference )?'@?([^'()]+)(?:\(\))?'", first):
        name = match[1].split("/")[-1]
        known = sorted(REGISTERED)
        return f"unknown name {name!r}{guess(name, known)} Known: {', '.join(known)}.{where}"
    if match := re.match(r"Configurable '(.+?)' doesn't have a parameter named '(.+?)'", first):
        owner = match[1].split(".")[-1]
        known = sorted(parameters(REGISTERED[owner]))
        return (
            f"{owner} has no parameter {match[2]!r}{guess(match[2], known)} "
            f"Known: {', '.join(known)}.{where}"
        )
    if match := re.search(r"arguments: \['value'\](?s:.)*?'macro' .* in scope '(.+?)'", text):
        # A binding of another macro is likely to have half of the letters: MODEL_DIR, MODEL_SIZE.
        close = guesses.closest(match[1], given, 0.85)
        meant = f" (was it meant by {close!r}?)" if close else ""
        return f"macro {match[1]} has no value; give one with --gin.{match[1]}=...{meant}"
    if first.startswith("malformed node"):  # followed by the address of an object
        return f"a value is no Python literal or gin reference; put quotes around a text.{where}"
    if match := re.search(r"(\w+)(?:\.__init__)?\(\) missing .* arguments?: (.*)", first):
        return f"{match[1]} needs a value for {match[2]}; {_binders(match[1], match[2])}."
    match = re.match(r"unknown [\w ]+ '([^']*)'(.*)", first)
    if match and "Did you mean" not in first:
        meant = guesses.did_you_mean(match[1], re.findall(r"[\w.]+", match[2]))
        first += f"{'' if first.endswith('.') else '.'}{meant}" if meant else ""
    # What gin adds about its own calls is of no use to people; where the binding stands is.
    return first + listed + where
