"""Whole runs of methods that need more than a prompt in front: templates, tasks, other runs."""

import dataclasses

import numpy as np
import pytest

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.data.tasks import registry, tables
from spjax.inference import prediction, scoring
from spjax.inference.prediction import Predictor, PreparedPrompt
from spjax.methods.initializers import FromFile, Uniform
from spjax.methods.multitask_prompt_tuning import MultitaskPromptTuning
from spjax.methods.p_tuning import PTuning
from spjax.methods.prefix_tuning import PrefixTuning
from spjax.models import get_size
from spjax.models.decoding import Decoding
from spjax.training import loop, run_data
from spjax.training.gang import Gang
from spjax.training.member import Member

pytestmark = pytest.mark.usefixtures("few_examples")

MIXTURE = {"pocket_pair": {"rates": {"pocket_cb": 3, "pocket_copa": 1}}}
TEMPLATE = "{p:3} {premise} ? {p:2} answer: {p:1} {hypothesis}"


@pytest.fixture
def brief(run, monkeypatch):
    monkeypatch.setattr(registry, "_mixtures", lambda: tables.mixtures() | MIXTURE)
    return dataclasses.replace(run, steps=2, eval_period=2, eval_examples=8)


@pytest.mark.slow
def test_a_template_in_training_and_scoring_with_the_table_alone(brief, tmp_path):
    method = PTuning(template=TEMPLATE, encoder="mlp", hidden=4)
    run = dataclasses.replace(brief, method=method)
    (result,) = loop.train([run], [tmp_path])
    assert result["insertion"] == TEMPLATE and result["prompt_length"] == 6
    prompt = prompt_files.read_soft_tokens(tmp_path)
    assert prompt.soft_tokens_PD.shape == (6, 16) and not (tmp_path / "tuned.safetensors").exists()
    data = run_data.RunData(run)
    predictor = Predictor(
        get_size(run.model),
        run.open_model().weights,
        [prediction.prepare(prompt)],
        data.vocabulary,
        Decoding(),
        data.layout.input_length,
        data.layout.target_length,
    )
    again = scoring.score_prompt(predictor, "pocket_cb", "test", 64, vocabulary="pocket")
    assert {name: again[name] for name in result["test"]} == pytest.approx(result["test"])
    with pytest.raises(ValueError, match="has room for 6 rows and the prompt has 5"):
        short = prediction.prepare(Prompt.from_array(prompt.soft_tokens_PD[:5], prompt.provenance))
        Predictor(get_size(run.model), predictor.base, [short], data.vocabulary, Decoding())


def test_tasks_of_a_mixture_have_numbers_in_training_and_evaluation(brief):
    method = MultitaskPromptTuning(length=2, initializer=Uniform())
    data = run_data.RunData(dataclasses.replace(brief, task="pocket_pair", method=method))
    assert data.method.tasks == 2 and dict(data.layout.tasks) == {"pocket_cb": 0, "pocket_copa": 1}
    seen = np.concatenate([next(data.batches())["tasks_BG"][:, 0] for _ in range(3)])
    assert set(seen.tolist()) == {0, 1}
    with pytest.raises(ValueError, match="teachers has 1 prompts for 2 tasks"):
        run_data.RunData(dataclasses.replace(data.run, method=method.clone(teachers=("a",))))


@pytest.mark.slow
def test_source_and_target_stage_and_transfer(brief, tmp_path):
    rows, teachers = np.random.default_rng(0).normal(size=(2, 3, 16)), []
    for name, own in zip("ab", rows.astype(np.float32)):
        np.save(tmp_path / f"{name}.npy", own)
        teachers.append(str(tmp_path / f"{name}.npy"))
    method = MultitaskPromptTuning(length=3, rank=2, initializer=Uniform(), teachers=teachers)
    source = dataclasses.replace(brief, task="pocket_pair", method=method, steps=1, eval_period=1)
    loop.train([source], [tmp_path / "source"])
    files = {path.name for path in (tmp_path / "source" / "prompts").iterdir()}
    assert {"pocket_cb.npy", "pocket_copa.npy"} <= files
    factors, header = array_files.read_safetensors(tmp_path / "source" / "tuned.safetensors")
    assert factors["u"].shape == (2, 3, 2) and header["task"] == "pocket_pair"
    expected = factors["shared"] * (factors["u"].mean(0) @ factors["v"].mean(0))
    target = method.clone(source=str(tmp_path / "source"), teachers=())
    one = Member(dataclasses.replace(brief, method=target), tmp_path / "target")
    gang = Gang([one], brief.open_model())
    start = target.without_initializer().collapse(gang.arrays(one)["trainable"], gang.model.weights)
    np.testing.assert_allclose(start["prompt"], expected, rtol=1e-5)
    gang.close()
    # SPoT: the prompt of one task starts another run.
    path = tmp_path / "source" / "prompts" / "pocket_cb.npy"
    own = FromFile(str(path))(None, 3, np.zeros((1, 16), np.float32))
    np.testing.assert_array_equal(own, prompt_files.read_soft_tokens(path).soft_tokens_PD)


@pytest.mark.slow
def test_unequal_prefixes_train_in_a_gang_and_answer_from_what_they_leave(brief, tmp_path):
    runs = [
        dataclasses.replace(brief, method=PrefixTuning(length=n, hidden=0), seed=n) for n in (2, 3)
    ]
    results = loop.train(runs, [tmp_path / "a", tmp_path / "b"])
    assert all(result["status"] == "finished" for result in results)
    found, _ = array_files.read_safetensors(tmp_path / "b" / "tuned.safetensors")
    assert {name.split("/")[1] for name in found} == {"encoder", "decoder", "cross"}
    # Both answer in one batch as they were scored, beside a prompt and in each other's company.
    data = run_data.RunData(runs[0])
    bank = [prediction.prepare(prompt_files.read(tmp_path / name)) for name in "ab"]
    bank.append(PreparedPrompt(Prompt.from_array(np.ones((4, 16), np.float32))))
    predictor = Predictor(
        get_size(brief.model),
        brief.open_model().weights,
        bank,
        data.vocabulary,
        Decoding(),
        data.layout.input_length,
        data.layout.target_length,
    )
    (info,) = data.mixture.scored
    split = data.split(info, "validation")
    inputs = [split.inputs[i] for i in range(6)]
    answers = predictor.answer(inputs * 3, [0] * 6 + [1] * 6 + [2] * 6)
    for which in (0, 1):
        own = [predictor.answer([text], [which])[0] for text in inputs]
        assert answers[6 * which : 6 * which + 6] == own
