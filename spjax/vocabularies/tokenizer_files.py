"""Hugging Face tokenizer files: sentinels and added tokens of a vocabulary."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spjax.files import JSON_BYTES, read_bytes, write_text

if TYPE_CHECKING:
    from spjax.vocabularies.vocabulary import Vocabulary

CONFIG = "tokenizer_config.json"
STATE_SENTINELS = (
    f"How many are appended to the pieces of the file is said by a {CONFIG} beside it: "
    '{"extra_ids": 100}.'
)
_ADDED, _WHOLE = "added_tokens.json", "tokenizer.json"
_CLASSES = {"T5Tokenizer", "T5TokenizerFast", "MT5Tokenizer", "MT5TokenizerFast"}
_SENTINEL = re.compile(r"▁?<extra_id_\d+>")


def extra_ids(folder: Path) -> int | None:
    """Returns the number of sentinels that follow the SentencePiece pieces, None if unknown.

    Raises:
      ValueError: a file cannot be read, or says something impossible.
    """
    stated = _read(folder / CONFIG).get("extra_ids")
    if stated is not None:
        if type(stated) is not int or not 0 <= stated <= 10_000:
            raise ValueError(
                f"{folder / CONFIG} says extra_ids={stated!r}; it must be a number of sentinels "
                "from 0 to 10,000."
            )
        return stated
    return sum(map(bool, map(_SENTINEL.fullmatch, added_tokens(folder).values()))) or None


def write_extra_ids(folder: Path, count: int) -> None:
    """Writes the number of sentinels that follow the SentencePiece pieces of a folder."""
    write_text(folder / CONFIG, json.dumps({"extra_ids": count}) + "\n")


def added_tokens(folder: Path) -> dict[int, str]:
    """Returns the tokens, by id, that a tokenizer has beside its SentencePiece pieces.

    Raises:
      ValueError: a file cannot be read.
    """
    whole = _read(folder / _WHOLE).get("added_tokens") or []
    of_config = _read(folder / CONFIG).get("added_tokens_decoder") or {}
    try:
        tokens = {int(token["id"]): str(token["content"]) for token in whole}
        tokens |= {int(i): str(token) for token, i in _read(folder / _ADDED).items()}
        return tokens | {int(i): str(token["content"]) for i, token in of_config.items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(
            f"the added tokens of the tokenizer in {folder} cannot be read "
            f"({type(error).__name__}: {error}). Download the folder again."
        ) from error


@functools.lru_cache(maxsize=32)
def check(vocabulary: Vocabulary, advice: str) -> None:
    """Demands that the tokenizer files beside a vocabulary give the same ids.

    Args:
      vocabulary: the vocabulary.
      advice: what to do otherwise.

    Raises:
      ValueError: it is of another kind, changes the text first, or has other tokens.
    """
    folder = vocabulary.path.parent
    config = _read(folder / CONFIG)
    kind = config.get("tokenizer_class")
    problem = ""
    if kind not in (None, *_CLASSES):
        problem = f"its tokenizer is a {kind!r} and not T5's"
    elif config.get("do_lower_case"):
        problem = "its tokenizer makes all letters small"
    for number, token in added_tokens(folder).items():
        known = vocabulary.piece(number) if 0 <= number < vocabulary.size else None
        if known != token.removeprefix("▁"):
            instead = f"is {known!r}" if known else f"does not exist, it has {vocabulary.size} ids"
            there = f"which in {vocabulary.path.name} {instead}"
            problem = f"its tokenizer has {token!r} at {number}, {there}"
            break
    if problem:
        raise ValueError(f"the vocabulary of {folder} cannot be determined: {problem}. {advice}")


def describe(folder: Path | None, names: list[str]) -> str:
    """Lists the tokenizer files of a folder in words.

    Args:
      folder: where they are, None if they cannot be opened.
      names: of the files.
    """
    kinds = []
    if folder is not None:
        kinds.append(_read(folder / CONFIG).get("tokenizer_class"))
        model = _read(folder / _WHOLE).get("model")
        kinds.append(model.get("type") if isinstance(model, Mapping) else None)
    told = ", ".join(str(kind) for kind in kinds if kind)
    return ", ".join(names) + (f" ({told})" if told else "")


def _read(path: Path) -> dict[str, Any]:
    """Reads the JSON object of a file, {} if there is none."""
    try:
        content = json.loads(read_bytes(path, JSON_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}. Download the file again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object. Download the file again.")
    return content
