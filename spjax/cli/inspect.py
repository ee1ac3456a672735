"""The command `spjax inspect`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spjax.cli import model_flags

_METRICS = ("cosine", "euclidean")
_MEASURES = {"average": "cosine of mean rows", "per_token": "mean cosine of rows"}


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("inspect", inspect)
    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        nargs="+",
        help="prompt files, adapters or run folders; several are compared with each other",
    )
    parser.add_argument("--model", default="", help="its size; that of the run by default")
    parser.add_argument("--checkpoint", default="", help="its weights, unless they ship with spjax")
    parser.add_argument("--vocabulary", default="", help="name or path of its vocabulary")
    parser.add_argument("--neighbours", type=int, default=5, help="words for each row")
    parser.add_argument("--metric", choices=_METRICS, default=_METRICS[0], help="what near means")
    parser.add_argument("--labels", default="", metavar="A,B", help="the task's by default")
    parser.add_argument("--text", default="", help="count the rows nearest to its words, in order")
    parser.add_argument("--discretise", metavar="FILE", help="write the prompt of nearest words")
    parser.add_argument("--figure", metavar="FILE.png", help="of several prompts: their likeness")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def inspect(args: argparse.Namespace) -> int:
    """Prints a prompt's norms, provenance and nearest words, or how alike several prompts are.

    Examples:
      spjax inspect runs/boolq
      spjax inspect boolq.npy --model=pocket_800k
      spjax inspect boolq.npy wic.npy
    """
    from spjax.checkpoints.prompts import prompt_files
    from spjax.studies.copies import local_copy

    args.prompt = [local_copy(path) for path in args.prompt]
    loaded = [prompt_files.read_soft_tokens(path) for path in args.prompt]
    several = len(loaded) > 1
    if several and args.discretise or not several and args.figure:
        raise ValueError(
            f"--discretise takes one prompt and --figure several; {len(loaded)} are given."
        )
    text, data = _compare(args, loaded) if several else _look(args, loaded[0])
    print(json.dumps(data, indent=2) if args.json else text)
    return 0


def _look(args: argparse.Namespace, prompt: Any) -> tuple[str, dict[str, Any]]:
    """One prompt's page, and the same as data."""
    from spjax.analysis import interpretation, prompt_page
    from spjax.api.models import find_vocabulary
    from spjax.checkpoints import model_vocabulary
    from spjax.checkpoints.prompts import prompt_files

    options: dict[str, Any] = {"neighbours": args.neighbours, "metric": args.metric}
    problem = _take_model(args, prompt)
    if has_model := args.model or args.checkpoint:
        embedding = _embedding(args.model, args.checkpoint)
        vocabulary = find_vocabulary(args.vocabulary, args.model, args.checkpoint)
        model_vocabulary.check_rows(vocabulary, len(embedding), args.checkpoint or args.model)
        options |= {
            "embedding_VD": embedding,
            "vocabulary": vocabulary,
            "labels": _labels(args, prompt),
        }
        options["text"] = args.text
    data = interpretation.examine(prompt, **options)
    if drift := _drift(Path(args.prompt[0])):
        data["drift"] = drift
    text = prompt_page.page(data)
    text += f"\n\n{problem}" if problem else ""
    if not has_model:
        text += f"\n\nGive {_flag_of_model(prompt)} for the nearest words of each row."
    if args.discretise:
        if not has_model:
            raise ValueError(
                f"--discretise needs the words: give the model with {_flag_of_model(prompt)}."
            )
        discretised = interpretation.discretised(prompt, embedding, vocabulary, args.metric)
        data["discretised"] = str(prompt_files.write(args.discretise, discretised))
        data["words"] = discretised.provenance["words"]
        text += f"\n\n{data['discretised']} holds the nearest words: {data['words']}"
    return text, data


def _flag_of_model(prompt: Any) -> str:
    """The flag that names the model of a prompt: a size whose weights ship, or a checkpoint."""
    from spjax import hub
    from spjax.checkpoints.weights import weights

    size, base = (prompt.provenance.get(name, "") for name in ("model", "base_model"))
    if not base and weights.ships(size):
        return f"--model={size}"
    if hub.is_name(base):
        revision = prompt.provenance.get("base_revision", "")
        return f"--checkpoint={hub.Repository(base, revision)}"
    return "--checkpoint=PATH" if size or base else "--model=SIZE or --checkpoint=PATH"


def _take_model(args: argparse.Namespace, prompt: Any) -> str:
    """Fills in the model of a prompt's run, or that it names, if its weights are on this machine.

    Args:
      args: the flags, which change.
      prompt: what was read.

    Returns:
      Why the model was not taken or may be the wrong one, else "".
    """
    from spjax.api import run_folders
    from spjax.api.stored_prompts import base_model_of
    from spjax.checkpoints import frozen_model, remote
    from spjax.checkpoints.weights import weights
    from spjax.inference import prediction

    facts, vocabulary, dtype = prompt.provenance, args.vocabulary, "float32"
    if args.model or args.checkpoint:
        known = {} if args.checkpoint else weights.shipped_digests(args.model)
        if known and facts.get("base_sha256", min(known)) not in known:
            return f"The prompt was trained with other weights than those of {args.model} here."
        return ""
    model = facts.get("model", weights.AUTO)
    try:
        if folder := run_folders.find_run_folder(args.prompt[0]):
            run = run_folders.load_run_config(folder)
            run.check_contents()
            model, checkpoint, dtype = run.model, run.checkpoint, run.weights_dtype
            vocabulary = vocabulary or run.vocabulary
        elif not (checkpoint := base_model_of(args.prompt[0], facts)):
            return ""  # the weights that ship may not be those of training
        if remote.is_url(checkpoint):
            return ""
        weights.find(model, checkpoint)
        found = frozen_model.open_shared(model, checkpoint, vocabulary=vocabulary, dtype=dtype)
        width = prompt.soft_tokens_PD.shape[1]
        if found.config.emb_dim != width:
            return f"No words: {checkpoint or model} has width {found.config.emb_dim}, not {width}."
        # The weights of a run are known by their files, those of a prompt alone are all read.
        if not (folder and checkpoint) and (reasons := prediction.doubts(prompt, found)):
            return f"No words: {reasons[0]}."
    except ValueError as error:  # changed or moved files: the prompt is shown without words
        return f"No words: {error}"
    args.model, args.checkpoint, args.vocabulary = model, checkpoint, vocabulary
    return ""


def _compare(args: argparse.Namespace, compared: list[Any]) -> tuple[str, dict[str, Any]]:
    """Compares prompts: tables of their similarity, and the same as data."""
    from spjax.analysis import interpretation, prompt_page
    from spjax.analysis.figures import _heat_map

    tasks = [prompt.provenance.get("task", "") for prompt in compared]
    names = tasks if len({*tasks} - {""}) == len(compared) else args.prompt
    alike = interpretation.similarities(compared)
    text = "\n\n".join(
        prompt_page.matrix(names, alike[measure], title) for measure, title in _MEASURES.items()
    )
    data = {"prompts": list(names), **{name: x.tolist() for name, x in alike.items()}}
    if args.figure:
        title = _MEASURES["average"]
        drawn = _heat_map.draw(names, alike["average"], title, Path(args.figure))
        data["figures"] = [str(path) for path in drawn]
        text += f"\n\nDrawn: {', '.join(data['figures'])}"
    return text, data


def _labels(args: argparse.Namespace, prompt: Any) -> tuple[str, ...]:
    from spjax.inference import prediction

    task = prediction.task_of(prompt)
    return model_flags.labels(args) or (task.class_labels if task else ())


def _drift(path: Path) -> list[dict[str, float]]:
    """Returns the norms that a run has logged at each evaluation; [] if this is no run."""
    from spjax.files import DamagedFile, read_json_lines, reason
    from spjax.studies import run_folder

    log = (path if path.is_dir() else path.parent) / "metrics.jsonl"
    if not log.is_file() or not (path.is_dir() or path.name == "prompt.npy"):
        return []
    if problem := run_folder.metrics_problem(log.parent, run_folder.result(log.parent) or {}):
        raise ValueError(f"{problem}. Copy it again, or delete it.")
    try:
        rows = read_json_lines(log)
    except OSError as error:
        raise ValueError(f"cannot read {log}: {reason(error)}. Delete it.") from error
    except DamagedFile as error:
        raise ValueError(f"{error}. Delete it, or copy it again.") from error
    return [
        {"step": row["step"], **{name: row[f"trainable/{name}"] for name in ("norm", "drift")}}
        for row in rows
        if "trainable/drift" in row
    ]


def _embedding(model: str, checkpoint: str) -> Any:
    """The embedding table alone: for an inspection the other weights need not be read."""
    from spjax.checkpoints.weights import weights
    from spjax.checkpoints.weights.stored_array import check_finite
    from spjax.models.t5 import EMBEDDING

    path = weights.find(model, checkpoint)
    stored = weights.open_arrays(path)
    names = (EMBEDDING, "shared.weight")  # T5X's and Hugging Face's
    for name in names:
        if name in stored:
            table = stored[name].read()
            check_finite(table, name, path)
            return table
    raise ValueError(
        f"{path} has no embedding table, neither {' nor '.join(names)}. Give the weights of "
        "a T5 model with --checkpoint."
    )
