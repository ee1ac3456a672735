"""The vocabulary that belongs to a model, taken from its checkpoint, or refused."""

from __future__ import annotations

from spjax.checkpoints import remote
from spjax.checkpoints.weights import weights
from spjax.vocabularies import tokenizer_files, vocabulary
from spjax.vocabularies.vocabulary import Vocabulary

ADVICE = (
    "Give its SentencePiece file, or the name of a vocabulary that ships with spjax "
    f"({', '.join(vocabulary.SHIPPED)}), with --vocabulary=PATH; `spjax train` and `sweep` take "
    "--gin.Run.vocabulary=PATH."
)
_MULTIPLE = 128  # T5's embeddings have their number of rows rounded up to a multiple of it


def of(model: str, checkpoint: str = "") -> str:
    """Returns the name or path of the vocabulary of a model.

    That is the `spiece.model` beside the weights, if the tokenizer's other files and the rows of
    the embedding agree with it; where no file says anything, the shipped one that has as many ids
    as the embedding has rows, but for rounding up.

    Args:
      model: name of a size, or "auto".
      checkpoint: its weights; "" for those that ship with the pocket sizes.

    Raises:
      ValueError: the checkpoint does not say, or what it says does not agree.
    """
    path = weights.vocabulary_of(checkpoint)
    # A size that is named is not looked up over the network: those of the table have T5's.
    looked_up = model == weights.AUTO or not remote.is_url(checkpoint)
    if not path and looked_up and (names := weights.tokenizer_files(checkpoint)):
        there = tokenizer_files.describe(weights.folder_of(checkpoint), names)
        raise ValueError(
            f"the vocabulary of {checkpoint} cannot be told: there is no {weights.VOCABULARY} "
            f"beside the weights but {there}, which spjax does not read. {ADVICE}"
        )
    rows = weights.config_of(model, checkpoint).vocab_size
    if path:
        words = vocabulary.load(path)
        tokenizer_files.check(words, ADVICE)
        check_rows(words, rows, checkpoint)
        if not words.says_sentinels and not _is_rounded(words.size, rows):
            raise ValueError(
                f"the vocabulary {path} has {words.size:,} ids with T5's {words.extra_ids} "
                f"sentinels, and the embedding {rows:,} rows, more than rounding up makes of them. "
                f"{tokenizer_files.STATE_SENTINELS} {ADVICE}"
            )
        return path
    sizes = {name: vocabulary.load(name).size for name in vocabulary.SHIPPED}
    for name, size in sizes.items():
        if _is_rounded(size, rows):
            return name
    known = ", ".join(f"{size:,} of {name}" for name, size in sizes.items())
    raise ValueError(
        f"the vocabulary of {checkpoint or model} cannot be told: there is no {weights.VOCABULARY} "
        f"beside the weights, and {rows:,} rows of the embedding are not the ids of one that ships "
        f"with spjax ({known}). {ADVICE}"
    )


def load(name_or_path: str, model: str, checkpoint: str = "") -> Vocabulary:
    """Loads the vocabulary of a model, or another one that its embedding is large enough for.

    Args:
      name_or_path: as `vocabulary.load`; "" for the model's.
      model: as of `of`.
      checkpoint: as of `of`.

    Raises:
      ValueError: as `of`, `vocabulary.load` and `check_rows`.
    """
    words = vocabulary.load(name_or_path or of(model, checkpoint))
    check_rows(words, weights.config_of(model, checkpoint).vocab_size, checkpoint or model)
    return words


def check_rows(words: Vocabulary, rows: int, owner: str) -> None:
    """Demands that the embedding has a row for each id.

    Args:
      words: the vocabulary.
      rows: of the embedding.
      owner: the checkpoint or model, for the message.

    Raises:
      ValueError: there are fewer.
    """
    if words.size <= rows:
        return
    sentinels = "" if words.says_sentinels else f" {tokenizer_files.STATE_SENTINELS}"
    raise ValueError(
        f"the vocabulary {words.path} has {words.size} ids ({words.extra_ids} of them appended "
        f"sentinels) and the embedding of {owner} only {rows} rows. Choose a "
        f"vocabulary and a model that belong together.{sentinels} {ADVICE}"
    )


def _is_rounded(size: int, rows: int) -> bool:
    return size <= rows <= -(-size // _MULTIPLE) * _MULTIPLE
