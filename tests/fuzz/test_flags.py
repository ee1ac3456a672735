"""Every command and every flag of the parser, with values that people give by mistake."""

import argparse
import os
import shutil

import numpy as np
import pytest
import vl_convert
from harness import AMOUNT, SEED, command, judged, pipe, report, spread

from spjax.cli import main

GIN = [f"--gin_file=gin_configs/{name}.gin" for name in ("models/pocket", "runs/pocket")]
GIN += ["--gin_file=gin_configs/methods/prompt_tuning.gin"]
RUN = ["--gin.MODEL_SIZE=pocket_50k", "--gin.MIXTURE_OR_TASK_NAME=pocket_cb", "--gin.MODEL_DIR=run"]
RUN += ["--gin.PROMPT_LENGTH=3"]
# Arguments that are accepted, by command; {name} is a valid file.
USUAL = {
    "train": [*GIN, *RUN],
    "sweep": ["--gin_file={study.gin}"],
    "plot": ["{study}"],
    "plan": ["{study.gin}", "--topology=cpu:2"],
    "report": ["{study}"],
    "prompt_length": ["pocket_cb", "--model=pocket_50k"],
    "pretrain": [
        "--gin_file=experiments/pocket/pretrain.gin",
        "--gin.MODEL_SIZE=pocket_50k",
        "--gin.MODEL_DIR=made",
    ],
    "cache": ["--task=pocket_cb"],
    "configs": ["methods"],
    "tasks": ["{rows.jsonl}"],
    "eval": ["--prompt={prompt.npy}"],
    "predict": ["--prompt={prompt.npy}", "{inputs.txt}"],
    "inspect": ["{prompt.npy}", "--model=pocket_50k"],
    "convert": ["{prompt.npy}", "out.npy", "--format=npy"],
    "translate": [
        "t5x/examples/t5/t5_1_1/small.gin",
        "t5x/configs/runs/finetune.gin",
        "--gin.train/utils.DatasetConfig.pack=False",
        "--gin.INITIAL_CHECKPOINT_PATH='/a/checkpoint_5'",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 9, 'targets': 9}",
        "--gin.TRAIN_STEPS=9",
        "--gin.MIXTURE_OR_TASK_NAME=glue_rte_v002",
    ],
    "push": ["{prompt.npy}", "hf://org/name"],
}
INTEGERS = ["", "x", "-1", "0", "1e3", "nan", "9" * 30, "0.5", "None", "-" * 9, "0x10", "1_0"]
FLOATS = ["", "x", "nan", "inf", "-inf", "-1", "1e999", "1e300", "0,5", "None"]
WORDS = ["", " ", ",", "=", "%s", "{}", "\udcff", "é" * 3000, "../../x", "bogus", "@x()", "-"]
# What may be accepted of these: (flag, value), any value for a flag that is free text.
FREE = {"text", "pipeline_options", "base_model", "out", "gin_search_paths", "beam_python"}
FREE |= {"text_field", "split", "input_column", "output_dir", "cache_dir", "discretise", "figure"}
FREE |= {"seqio_cache_dir", "labels", "output", "template", "target"}
# Is written to: never a path that stands outside of a test's own folder.
WRITTEN = {"out", "output", "output_dir", "discretise", "figure", "cache_dir", "seqio_cache_dir"}
ALLOWED = {
    ("seed", "0"),
    ("trackers", ","),
    ("name", ""),  # is a part of every name
    ("devices_per_worker", "1_0"),
    ("seed", "1_0"),
    ("length_penalty", "-1"),
    ("top_k", "0"),
    ("input_length", "9" * 30),
    ("prompt_length", "0"),
    ("input_length", "0"),
    ("target_length", "0"),
    ("neighbours", "0"),
    ("num_workers", "1_0"),
    ("workers", "1_0"),
    ("batch_size", "1_0"),
    ("prompt_length", "1_0"),
    ("num_beams", "1_0"),
    ("top_k", "1_0"),
    ("input_length", "1_0"),
    ("target_length", "1_0"),
    ("neighbours", "1_0"),
    ("neighbours", "9" * 30),
}


@pytest.fixture(scope="module", autouse=True)
def script_engine():
    """Starts V8, which reserves more addresses than one input may ask for."""
    vl_convert.vegalite_to_vega({"mark": "point", "data": {"values": []}})


def commands():
    parser = main.make_parser()
    (chosen,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return chosen.choices


def flags():
    """(command, action) of everything that the command line takes."""
    return [
        (name, action)
        for name, parser in commands().items()
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]


def usual(name, valid):
    """Arguments of a command that are accepted."""
    found = {f"{{{key}}}": str(path) for key, path in valid.items()}
    arguments = USUAL[name]
    for key, path in found.items():
        arguments = [argument.replace(key, path) for argument in arguments]
    return arguments


def replaced(name, action, value, valid):
    """A command's usual arguments with another value for one of them."""
    arguments = usual(name, valid)
    if action.option_strings:
        flag = action.option_strings[-1]
        arguments += {"near": ["--leaks"]}.get(action.dest, [])
        if isinstance(action, argparse._StoreTrueAction):
            return [name, *arguments, f"{flag}={value}"]
        if action.dest == "task" and name == "cache" or action.dest == "corpus":
            arguments = []
        if action.dest in ("gin_file", "prompt"):
            arguments = [x for x in arguments if not x.startswith(f"{flag}=")]
        return [name, *arguments, f"{flag}={value}"]
    places = [i for i, x in enumerate(arguments) if not x.startswith("-")]
    order = [a.dest for a in commands()[name]._actions if not a.option_strings]
    place = order.index(action.dest)
    kept = [x for i, x in enumerate(arguments) if i not in places[place : place + 1]]
    return [name, *kept, "--", value] if place == len(places) - 1 else [name, value, *kept]


def values(action, special):
    if action.type is float:
        return FLOATS
    if action.type is not None:
        return INTEGERS
    if action.choices:
        return [*WORDS, str(list(action.choices)[0]).upper()]
    if action.dest in WRITTEN:
        return [word for word in WORDS if ".." not in word] + ["x" * 300, "fifo", "folder", "a/b/c"]
    return [*WORDS, *special]


def may(action, value, special):
    """Returns whether a value is one that the flag may well take."""
    if (action.dest, value) in ALLOWED or action.dest in FREE:
        return True
    optional = not action.required and action.option_strings and action.default in ("", None, [])
    return value == "" and optional and action.type is None and not action.choices


def test_the_usual_arguments_are_accepted(valid):
    shutil.copy(valid["prompt.npy"], "prompt.npy")
    outcomes = [(name, command([name, *usual(name, valid)])) for name in commands()]
    assert {name: x.kind for name, x in outcomes} == dict.fromkeys(commands(), "rightly fine"), (
        outcomes
    )


def test_every_flag_with_every_wrong_value(valid, special):
    rng = np.random.default_rng(SEED)
    pipe("fifo")
    os.mkdir("folder")
    outcomes = []
    for name, action in flags():
        for value in spread(values(action, special), rng, max(1, AMOUNT // 20)):
            argv = replaced(name, action, value, valid)
            outcome = judged(command(argv), may(action, value, special))
            outcomes.append((argv, outcome))
    report(outcomes)


def mistakes(name, valid, rng):
    """A command line with one thing wrong that no flag alone shows, and whether it may pass."""
    arguments = usual(name, valid)
    parser = commands()[name]
    options = [o for a in parser._actions for o in a.option_strings if o.startswith("--")]
    option = str(rng.choice(options))
    kind = rng.integers(6)
    if kind == 0:
        return [name, *arguments, f"{option[:-1]}q=1"], False
    if kind == 1:
        return [name, *arguments, option.replace("--", "---", 1)], False
    if kind == 2:
        return [name], name == "tasks"
    if kind == 3:
        return [name, *arguments, *["surplus"] * 3], name == "inspect"
    if kind == 4:
        return [name + "s", *arguments], False
    doubled = [x for x in arguments if x.startswith("--")]
    return [name, *arguments, *doubled], True


def test_mistakes_beside_the_values(valid):
    rng = np.random.default_rng(SEED)
    outcomes = []
    for name in spread(list(commands()) * (AMOUNT // 4), rng):
        argv, fine = mistakes(name, valid, rng)
        outcomes.append((argv, judged(command(argv), fine)))
    report(outcomes)


@pytest.mark.parametrize("argv", [[], [""], ["--"], ["-h", "x"], ["é"], ["train", "-h"]])
def test_no_command(argv):
    outcome = judged(command(argv), "-h" in argv)
    report([(argv, outcome)])
