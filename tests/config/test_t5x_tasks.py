"""Tasks of T5X with another vocabulary than T5's, and those of a user's own module."""

import re

import pytest

from spjax import config
from spjax.config.t5x import shell, translation
from spjax.config.t5x.draft import DIFFERS, LEFT, NOT_NEEDED, TRANSLATED
from spjax.data.token_cache import seqio_source
from tests.config import t5x_flags

PROMPTS = "prompt_tuning/configs"
MODEL = f"{PROMPTS}/models/t5_1_1_base_prompt.gin"
RUN = f"{PROMPTS}/runs/prompt_finetune.gin"


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    """Installed packages do not count."""
    monkeypatch.setattr(translation, "_installed", lambda: iter(()))


def translated(files=(MODEL, RUN), more=(), **changes):
    flags = [*t5x_flags.FLAGS, *(f"{name}={value}" for name, value in changes.items()), *more]
    return translation.translate(files, flags)


def texts(draft, kind):
    return [f"{row.binding} -> {row.text}" for row in draft.rows if row.kind == kind]


def test_mt5_has_the_shape_and_the_vocabulary_of_its_checkpoint():
    files = (f"{PROMPTS}/models/mt5_small_prompt.gin", RUN)
    draft = translated(files, MIXTURE_OR_TASK_NAME="'mt5_taskless_glue_rte_v002_examples'")
    assert draft.settings["MODEL_SIZE"] == "auto"
    assert draft.settings["MIXTURE_OR_TASK_NAME"] == "taskless_glue_rte_v002"
    assert "--gin.Run.vocabulary=SPIECE_MODEL" in draft.command("out.gin")
    assert "SPIECE_MODEL -> the path of your copy of gs://t5-data" in draft.gin_text("x", "out.gin")
    assert any("mc4.250000" in text for text in texts(draft, TRANSLATED))


def test_byt5_reads_bytes():
    files = ("t5x/examples/t5/t5_1_1/base.gin", "t5x/configs/runs/finetune.gin")
    more = ["VOCABULARY=@seqio.ByteVocabulary()", "train/utils.DatasetConfig.pack=False"]
    draft = translated(files, more, MIXTURE_OR_TASK_NAME="'byt5_glue_rte_v002_examples'")
    assert draft.settings["Run.vocabulary"] == "byt5" and not texts(draft, DIFFERS)
    assert draft.settings["MIXTURE_OR_TASK_NAME"] == "glue_rte_v002"


def test_a_seqio_task_of_a_users_module(tmp_path, monkeypatch):
    own = {"MIXTURE_OR_TASK_NAME": "'my_task'", "MIXTURE_OR_TASK_MODULE": "'my_project.tasks'"}
    draft = translated(
        (MODEL, f"{PROMPTS}/prompts/from_class_labels.gin", RUN), **own, CLASS_LABELS="['a']"
    )
    assert texts(draft, DIFFERS) == [
        f"{binding} -> {text}"
        for binding, text in {
            "the metric_fns of my_task": "answers are scored as text; for others bind TASK_LABELS "
            "or seqio_task.metrics",
            "the splits of my_task": "a task without validation or test split has 10 % of train "
            "held out for each",
            "my_task, if it is a mixture": "name one task; mixtures are not read",
        }.items()
    ]
    assert "spjax imports no module" not in draft.table()
    rows = [f'{{"input": "x {i}", "target": "a"}}\n' for i in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(rows))
    exported = {}
    monkeypatch.setattr(
        seqio_source, "_exported", lambda *names: exported.setdefault(names, tmp_path)
    )
    path = tmp_path / "translated.gin"
    path.write_text(draft.gin_text("a test", str(path)))
    run, _ = config.load_with_folder("Run", [path])
    assert list(exported) == [("my_project.tasks", "my_task")]
    assert (run.input_length, run.target_length) == (512, 8)
    assert run.method.initializer.labels == ("a",)
    with pytest.raises(ValueError, match="no task 'my_task'.*if MIXTURE_OR_TASK_MODULE names"):
        translated(MIXTURE_OR_TASK_NAME="'my_task'")
    known = {"MIXTURE_OR_TASK_NAME": "'taskless_glue_sst2_v200'"}
    (text,) = texts(translated(**own | known), DIFFERS)
    assert text.startswith(
        "MIXTURE_OR_TASK_NAME = 'taskless_glue_sst2_v200' of my_project.tasks ->"
    )
    with pytest.raises(ValueError, match="is 'a b', which seqio takes for no name"):
        translated(**own | {"MIXTURE_OR_TASK_NAME": "'a b'"})
    own["MIXTURE_OR_TASK_MODULE"] = "'prompt_tuning.data.glue'"  # which has no such task
    with pytest.raises(ValueError, match="no task 'my_task'"):
        translated(**own)


def test_a_variable_of_a_script_stands_as_in_it():
    draft = translated()
    mark = shell.OPEN["$"]
    draft.note(DIFFERS, f"split = {mark + '{V}'!r}", f"the metrics of {mark}{{TASK}}")
    assert "split = '${V}' -> the metrics of ${TASK}" in texts(draft, DIFFERS)


def test_a_text_with_line_breaks_stays_a_comment():
    """No text of a script is a line of the gin file."""
    draft = translated()
    for kind in (DIFFERS, LEFT, NOT_NEEDED, TRANSLATED):
        draft.note(kind, "a\nimport evil", "b\rimport evil\u2028import evil")
    draft.set("SEED", 1, "x", "a\nimport evil")
    lines = re.split(r"[\n\r]", draft.gin_text("a\nimport evil", "x.gin"))
    assert not [line for line in lines if line.startswith("import")]
