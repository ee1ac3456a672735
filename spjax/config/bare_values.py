"""Values on the command line: `--gin.MODEL_DIR=runs/a` needs no quotes around its text."""

from __future__ import annotations

import inspect
import re
import shlex
import tokenize
from typing import Any

from gin import config as gin_config
from gin import config_parser

from spjax.config.messages import explanation

_BARE = re.compile(r"[\w./~:+-][\w./~:+@#-]*")
# A text with columns in braces; a list, tuple or mapping of gin has its bracket at both ends.
_TEMPLATE = re.compile(r"""(?![@%'"]|\[[^\]]*\]?$|\([^)]*\)?$|\{\s*['"]).*\{[^\W\d][\w ]*\}.*""")
_ENDS = (tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.COMMENT, tokenize.NL)
_OPENING = tuple("@%'\"([{")


def split(text: str) -> tuple[str, str]:
    """Splits "NAME = value"; a bare word or a template of columns becomes a quoted string.

    Raises:
      ValueError: there is no "=", or the value is neither a value of gin nor such a text.
    """
    name, value = parts(text)
    try:
        _check_whole(value)
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError) as error:
        if not _BARE.fullmatch(value) and not _TEMPLATE.fullmatch(value):
            if "No configurable matching" in str(error):
                raise ValueError(explanation(str(error))) from error
            advice = f"write a text as --gin.{name}={_for_shell(repr(value))}"
            if value.startswith(("[", "(", "{")):
                advice = f"put quotes around each text in it; or, if all of it is one, {advice}"
            raise ValueError(
                f"the value {value!r} of {name} is neither a Python literal nor a gin reference; "
                f"{advice}."
            ) from None
        value = repr(value)
    return name, value


def parts(text: str) -> tuple[str, str]:
    """Splits "NAME = value" and leaves the value as it is written.

    Raises:
      ValueError: there is no "=".
    """
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"binding {text!r} has no value; write it as --gin.{text}=VALUE.")
    return name.strip(), value.strip()


def _for_shell(literal: str) -> str:
    """Returns a literal as one word of a shell, in double quotes where these are enough."""
    return shlex.quote(literal) if set(literal) & set('"$`\\!') else f'"{literal}"'


def is_bare(value: str) -> bool:
    """Returns whether a value has neither quotes nor brackets, and refers to nothing."""
    return not value.startswith(_OPENING)


def is_text(owner: Any, parameter: str) -> bool:
    """Returns whether a parameter of a class takes a text and no number.

    Args:
      owner: a class or function with annotations; None for an unknown one.
      parameter: its name.
    """
    known = {} if owner is None else inspect.signature(owner).parameters
    if parameter not in known:
        return False
    kinds = {kind.strip() for kind in str(known[parameter].annotation).split("|")}
    return "str" in kinds and not kinds & {"int", "float", "bool", "Any"}


def _check_whole(value: str) -> None:
    """Raises an error where gin would read only the beginning of the value, or nothing of it."""
    parser = config_parser.ConfigParser(value, gin_config.ParserDelegate())
    parser.parse_value()
    while parser.current_token.type != tokenize.ENDMARKER:
        if parser.current_token.type not in _ENDS:
            raise ValueError(f"{value!r} goes on after its value")
        parser._advance_one_token()
