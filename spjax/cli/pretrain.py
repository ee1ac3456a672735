"""The command `spjax pretrain`."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spjax.cli import gin_flags

_HELD_OUT_DOCUMENTS = 4000
_QUIET: dict[str, Any] = {"log": lambda text: None}


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name, its function and parent parsers.
    """
    add("pretrain", pretrain_model, gin_flags.gin_parser())


def pretrain_model(args: argparse.Namespace) -> int:
    """Pre-trains or adapts a model in MODEL_DIR, continuing where a call was interrupted.

    Macros that matter: MODEL_SIZE, SEED, MODEL_DIR, and those of the gin file.

    Examples:
      spjax pretrain --gin_file=experiments/pocket/pretrain_graded.gin \\
        --gin.MODEL_SIZE=graded_50k --gin.MODEL_DIR=results/graded_50k
    """
    from spjax import config, multihost
    from spjax.studies import devices, run_folder

    devices.keep_memory()
    multihost.initialize()
    is_primary = multihost.is_primary()
    recipe, folder = _load_recipe(args)
    text = config.config_str(recipe)
    with run_folder.claim(folder, text) if is_primary else contextlib.nullcontext():
        card = run_folder.result(folder, f"{recipe.model}.json")
        if card is None:
            from spjax.api import run_folders
            from spjax.pretraining.pretrain import pretrain

            texts = load_texts(recipe)  # before the folder is claimed for this run
            if is_primary:
                recipe = run_folders.write_config("Pretrain", folder, text)
                copy_vocabulary(recipe, folder)
            multihost.barrier("start")
            card = pretrain(recipe, *texts, folder, **({} if is_primary else _QUIET))
        elif is_primary:
            print(f"Nothing to do: the pre-training in {folder} is finished.")
    if is_primary:
        print(json.dumps(card, indent=2, sort_keys=True))
    return 0


def _load_recipe(args: argparse.Namespace) -> tuple[Any, Path]:
    """The pre-training recipe and its folder."""
    from spjax import config
    from spjax.models.sizes import get_size

    try:
        return gin_flags.load_with_folder("Pretrain", args)
    except ValueError:
        # The recipe's tables are looked up first, and know nothing of sizes.
        if (size := config.macro("MODEL_SIZE")) and size != "auto":
            get_size(str(size))
        raise


def load_texts(recipe: Any) -> tuple[Any, list[Any], Any]:
    """Returns the documents of a recipe, those of each lesson, and held-out ones.

    Raises:
      ValueError: the corpus has not been built, or nothing says its vocabulary.
    """
    from spjax.vocabularies.vocabulary import load_vocabulary

    if recipe.corpus:
        from spjax.data.corpora import corpora
        from spjax.pretraining import span_corruption
        from spjax.pretraining.data import Shuffled

        name = _vocabulary_of(recipe)
        if recipe.span_steps:
            load_vocabulary(name).check_sentinels(span_corruption.most_spans(recipe.input_length))
        corpus = corpora.load(recipe.corpus, name)
        return Shuffled(corpus, recipe.seed), [], Shuffled(corpus, recipe.seed, held_out=True)
    from spjax.pocket import corpus as pocket_corpus
    from spjax.pocket.corpus import tokenized
    from spjax.pocket.graded import texts

    pieces = load_vocabulary(recipe.world)
    world = texts if recipe.world == "graded" else pocket_corpus
    print(f"Writing {recipe.documents} documents ...", flush=True)
    documents = tokenized(recipe.seed, recipe.documents, pieces, world.GENRES)
    lessons = [
        tokenized(recipe.seed, recipe.lesson_documents, pieces, genres)
        for genres in world.LESSONS[: len(recipe.lesson_steps)]
    ]
    return documents, lessons, tokenized(recipe.seed + 1, _HELD_OUT_DOCUMENTS, pieces, world.GENRES)


def copy_vocabulary(recipe: Any, folder: Path) -> None:
    """Copies a corpus's vocabulary beside the weights, where runs that start from them look."""
    if recipe.corpus:
        from spjax.checkpoints.weights import weights
        from spjax.vocabularies.vocabulary import load_vocabulary

        load_vocabulary(_vocabulary_of(recipe)).copy(folder, weights.VOCABULARY)


def _vocabulary_of(recipe: Any) -> str:
    from spjax.checkpoints import model_vocabulary
    from spjax.checkpoints.weights import weights

    name = recipe.vocabulary
    start = recipe.checkpoint
    if not name and (weights.vocabulary_of(start) or weights.tokenizer_files(start)):
        name = model_vocabulary.of(weights.AUTO, recipe.checkpoint)
    if not name:
        raise ValueError(
            f"nothing says the vocabulary of the corpus {recipe.corpus!r}: there is no "
            f"{weights.VOCABULARY} beside INITIAL_CHECKPOINT_PATH. Give its path with "
            "--gin.Pretrain.vocabulary=PATH."
        )
    return name
