"""Shell scripts that start T5X, read without running them, and by bash itself."""

import os
import subprocess

import pytest

from spjax.config.t5x import launch_scripts, remainder
from spjax.config.t5x.draft import Draft
from spjax.config.t5x.gin_files import Bindings

LAUNCH = "python3 -m t5x.train --gin.DROPOUT_RATE=${D} --gin.BATCH_SIZE=8"


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    """The variable is not one of the environment."""
    monkeypatch.delenv("D", raising=False)


def read(tmp_path, text):
    path = tmp_path / "launch.sh"
    path.write_text(text)
    return launch_scripts.read(path, [])


def by_bash(text):
    """The words behind `python3` when bash runs a script."""
    text = "python3() { printf '%s\\0' \"$@\" >&3; }\n" + text
    reading, writing = os.pipe()
    command = ["bash", "-c", f"exec 3>&{writing}\n{text}"]
    subprocess.run(command, check=True, pass_fds=[writing], stdout=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as file:
        return file.read().split("\0")[2:-1]


@pytest.mark.parametrize(
    "text",
    [
        f"D=0.1\n{LAUNCH}",
        f"D=0.1; X=1\n{LAUNCH}",
        f"X=1 D=0.1\n{LAUNCH}",
        f"D=0.1\nD+=5\n{LAUNCH}",
        f"readonly D=0.1\n{LAUNCH}",
        f"export X=3 D=0.1\n{LAUNCH}",
        f"if false; then D=0.9; fi\nD=0.1\n{LAUNCH}",
        f"D=0.1\nif true; then\n  D=0.2\n  {LAUNCH}\nfi",
        f"D=0.1\nif false; then\n  D=0.2\nelse\n  {LAUNCH}\nfi",
        f"D=0.1\nmain() {{\n  local D=0.2\n  {LAUNCH}\n}}\nmain",
        f"for x in 1; do\n  D=0.2\n  {LAUNCH}\ndone",
        f"D=0.1\n(X=1; {LAUNCH})",
        f"cat <<'END'\nit's text\nEND\nD=0.1\n{LAUNCH}",
        f"cat <<< 'text'\nD=0.1\n{LAUNCH}",
        f"D=0.1\n# a comment \\\nD=0.2\n{LAUNCH}",
        f"D='a;b'; {LAUNCH}",
        f'X=(1 2)\nD="(2,2)"\n{LAUNCH}',
        f"D=${{1:-0.3}}\n{LAUNCH}",
        f"D=0.1\n{LAUNCH}; echo done",
        f"D=0.1\n{LAUNCH} &",
        f"D=0.1\n{LAUNCH}; D=0.2",
        f"D=0.1\n{LAUNCH} &> /dev/null",
        f"D=0.1\n{LAUNCH} 2>&1|cat",
        f"D=0.1\n{LAUNCH} > /dev/null --gin.EVAL_PERIOD=5 2>/dev/null",
        f"D=0.1\n{LAUNCH} --gin.PROMPT_REGEX=\"['.*\\.x']\" --gin.A='\n' --gin.B=a\\\nb",
    ],
)
def test_a_script_is_read_as_bash_reads_it(tmp_path, text):
    launch, words = read(tmp_path, text), by_bash(text)
    assert [f"--gin.{binding}" for binding in launch.bindings] == words
    assert not launch.others and not launch.flags


@pytest.mark.parametrize(
    "text",
    [
        "D=0.1\nif false; then D=0.9; fi",
        "if [ $X ]; then\n  D=16\nelse\n  D=32\nfi",
        "if [ $X ]; then\n  D=16\nelif [ $Y ]; then\n  D=32\nfi",
        "if [ $X ]; then\n  if [ $Y ]; then D=16; fi\nfi",
        'D=0.1\n[ -z "$X" ] && D=0.7',
        "D=0.1\ntest $X || D=0.7",
        "D=0.1\ntest $X ||\n\n  D=0.7",
        "D=0.1\ntest $X || { D=0.7; }",
        "D=0.1\ncase $1 in a) D=0.3;; b|c) D=0.4;; esac",
        "case $1 in\n  (a)\n    D=0.3\n    ;;\n  *) D=0.4 ;;\nesac",
        "D=0.1\nwhile [ $# -gt 0 ]; do D=$1; shift; done",
        "D=0.1\nfor D in 0.1 0.2; do true; done",
        "D=0.1\nset_it() { D=0.2; }",
        "D=0.1\nfunction set_it {\n  D=0.2\n}",
        "D=0.1\nread -r D",
        "D=0.1\nunset D",
        "D=(1 2)",
        "D=0.1\nbash <<END\nD=0.2\nEND",
    ],
)
def test_what_a_script_may_not_assign_is_not_known(tmp_path, text, monkeypatch):
    for launch in (LAUNCH, LAUNCH.replace("${D}", "${D:-0.2}")):
        (rate, size) = read(tmp_path, f"{text}\n{launch}\n").bindings
        assert launch_scripts.unset_variables(rate) == "D" and size == "BATCH_SIZE=8"
    monkeypatch.setenv("D", "0.6")  # which decides
    assert read(tmp_path, f"{text}\n{LAUNCH}\n").bindings[0] == "DROPOUT_RATE=0.6"


@pytest.mark.parametrize(
    "text",
    [
        f"D=0.1\nrun() {{\n  {LAUNCH}\n}}\nD=0.2\nrun",
        f"D=0.1\nwhile true; do\n  {LAUNCH}\n  D=0.2\ndone",
        f"D=0.1\nfor x in 1 2; do\n  {LAUNCH}\n  D=0.2\ndone",
        f"run() {{\n  D=${{1:-0.2}}\n  {LAUNCH}\n}}\nrun 0.1",
    ],
)
def test_what_changes_around_a_launch_is_not_known(tmp_path, text):
    assert launch_scripts.unset_variables(read(tmp_path, text).bindings[0]) in ("D", "1")


def test_what_the_script_exports_to_jax_stays_in_the_command(tmp_path):
    text = f"export XLA_FLAGS=--xla_x MINE=3\nTF_A=1\nX=7\nCUDA_VISIBLE_DEVICES=$X A=1 {LAUNCH}"
    launch = read(tmp_path, "D=0.1\n" + text)
    assert launch.environment == {"XLA_FLAGS": "--xla_x", "CUDA_VISIBLE_DEVICES": "7"}
    draft = Draft(Bindings(), "train")
    remainder.add_flags(draft, launch)
    assert draft.command("x.gin").startswith("CUDA_VISIBLE_DEVICES=7 XLA_FLAGS=--xla_x spjax train")


@pytest.mark.parametrize("program", launch_scripts.PROGRAMS)
def test_t5x_main_starts_the_program_of_its_run_mode(tmp_path, program):
    text = f"python3 -m t5x.main --run_mode={program} --dry_run --gin.BATCH_SIZE=8"
    launch = read(tmp_path, text)
    assert (launch.program, launch.bindings) == (program, ("BATCH_SIZE=8",))
    draft = Draft(Bindings(), program)
    remainder.add_flags(draft, launch)
    assert not draft.differs


def test_other_programs_of_t5x_main_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--run_mode=export; translated are train, eval, infer"):
        read(tmp_path, "python3 -m t5x.main --run_mode=export")


def test_other_texts_that_set_variables_are_named(tmp_path):
    text = f"source venv/bin/activate\n. ./sizes.sh\nD=0.1\n{LAUNCH}"
    assert read(tmp_path, text).unread == (". ./sizes.sh",)
