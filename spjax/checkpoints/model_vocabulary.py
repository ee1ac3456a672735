"""The vocabulary that belongs to a model, taken from its checkpoint, or refused."""

from __future__ import annotations

import functools
from pathlib import Path

from spjax.checkpoints import remote
from spjax.checkpoints.weights import weights
from spjax.vocabularies import tokenizer_files
from spjax.vocabularies.vocabulary import BYT5, NAMES, Vocabulary, load_vocabulary

ADVICE = (
    "Give its SentencePiece file or tokenizer.json, or the name of a vocabulary that spjax knows "
    f"({', '.join(NAMES)}), with --vocabulary=PATH; `spjax train` and `sweep` take "
    "--gin.Run.vocabulary=PATH."
)
_MULTIPLE = 128  # T5's embeddings have their number of rows rounded up to a multiple of it


def of(model: str, checkpoint: str = "") -> str:
    """Returns the name or path of the vocabulary of a model.

    That is the `spiece.model` beside the weights, if the tokenizer's other files and the rows of
    the embedding agree with it, or else the `tokenizer.json`, or ByT5's where they say so; without
    such files, the known vocabulary, but for ByT5's, whose number of ids, rounded up, is the number
    of rows of the embedding.

    Args:
      model: name of a size, or "auto".
      checkpoint: its weights; "" for those that ship with the pocket sizes.

    Raises:
      ValueError: the checkpoint has no vocabulary, or its files do not agree.
    """
    path = weights.vocabulary_of(checkpoint)
    # A size that is named is not looked up over the network: those of the table have T5's.
    looked_up = model == weights.AUTO or not remote.is_url(checkpoint)
    if not path and looked_up and (names := weights.tokenizer_files(checkpoint)):
        path = _other_file(weights.folder_of(checkpoint), names)
        if not path:
            there = tokenizer_files.describe(weights.folder_of(checkpoint), names)
            raise ValueError(
                f"the vocabulary of {checkpoint} cannot be determined: there is no "
                f"{weights.VOCABULARY} beside the weights but {there}, which spjax does not read. "
                f"{ADVICE}"
            )
    rows = weights.config_of(model, checkpoint).vocab_size
    if path:
        vocabulary = load_vocabulary(path)
        check_tokenizer(vocabulary)
        check_rows(vocabulary, rows, checkpoint)
        if not vocabulary.says_sentinels and not _is_rounded(vocabulary.size, rows):
            raise ValueError(
                f"the vocabulary {path} has {vocabulary.size:,} ids with T5's "
                f"{vocabulary.extra_ids} sentinels, and the embedding {rows:,} rows, more "
                f"than rounding up explains. {tokenizer_files.STATE_SENTINELS} {ADVICE}"
            )
        return path
    # So few rows as ByT5's say nothing, and its tokenizer's files are looked for above.
    sizes = {name: load_vocabulary(name).size for name in NAMES if name != BYT5}
    for name, size in sizes.items():
        if _is_rounded(size, rows):
            return name
    known = ", ".join(f"{size:,} of {name}" for name, size in sizes.items())
    raise ValueError(
        f"the vocabulary of {checkpoint or model} cannot be determined: there is no "
        f"{weights.VOCABULARY} beside the weights, and {rows:,} rows of the embedding are not the "
        f"ids of one that spjax knows ({known}). {ADVICE}"
    )


def load(name_or_path: str, model: str, checkpoint: str = "") -> Vocabulary:
    """Loads the vocabulary of a model, or another one that its embedding is large enough for.

    Args:
      name_or_path: as `load_vocabulary`; "" for the model's.
      model: as of `of`.
      checkpoint: as of `of`.

    Raises:
      ValueError: as `of`, `load_vocabulary` and `check_rows`.
    """
    vocabulary = load_vocabulary(name_or_path or of(model, checkpoint))
    check_rows(vocabulary, weights.config_of(model, checkpoint).vocab_size, checkpoint or model)
    return vocabulary


def check_rows(vocabulary: Vocabulary, rows: int, owner: str) -> None:
    """Checks that the embedding has a row for each id.

    Args:
      vocabulary: the vocabulary.
      rows: of the embedding.
      owner: the checkpoint or model, for the message.

    Raises:
      ValueError: there are fewer.
    """
    if vocabulary.size <= rows:
        return
    sentinels = "" if vocabulary.says_sentinels else f" {tokenizer_files.STATE_SENTINELS}"
    raise ValueError(
        f"the vocabulary {vocabulary.path} has {vocabulary.size} ids ({vocabulary.extra_ids} of "
        f"them appended sentinels) and the embedding of {owner} only {rows} rows. Choose a "
        f"vocabulary and a model that belong together.{sentinels} {ADVICE}"
    )


def _other_file(folder: Path | None, names: list[str]) -> str:
    """Returns the name or path of a vocabulary without a `spiece.model`, "" if none is known."""
    if folder is None:
        return ""
    if tokenizer_files.is_byt5(folder):
        return BYT5
    return str(folder / tokenizer_files.WHOLE) if tokenizer_files.WHOLE in names else ""


def _is_rounded(size: int, rows: int) -> bool:
    return size <= rows <= -(-size // _MULTIPLE) * _MULTIPLE


@functools.lru_cache(maxsize=32)
def check_tokenizer(vocabulary: Vocabulary) -> None:
    """Checks that the tokenizer files beside a vocabulary give the same ids.

    Raises:
      ValueError: the tokenizer is of another kind, changes the text first, or has other tokens.
    """
    if str(vocabulary.path) == BYT5:  # there is no other file
        return
    folder = vocabulary.path.parent
    is_whole = vocabulary.path.name == tokenizer_files.WHOLE
    problem = tokenizer_files.unsupported_setting(folder, is_whole)
    for number, token in tokenizer_files.added_tokens(folder).items():
        piece = vocabulary.piece(number) if 0 <= number < vocabulary.size else None
        if piece != token.removeprefix("▁"):
            size = vocabulary.size
            instead = f"is {piece!r}" if piece else f"does not exist, it has {size} ids"
            there = f"which in {vocabulary.path.name} {instead}"
            problem = f"its tokenizer has {token!r} at {number}, {there}"
            break
    if problem:
        raise ValueError(f"the vocabulary of {folder} cannot be determined: {problem}. {ADVICE}")
