"""The same prompt in PEFT and in spjax: same bits, logits, loss and gradient.

Needs torch, transformers and peft; tried with peft 0.21.2 and transformers 5.23.0.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import trees
from spjax.checkpoints.prompts import adapters, prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.injection import Soft, join
from spjax.methods.ia3 import IA3
from spjax.methods.lora import LoRA
from spjax.methods.multitask_prompt_tuning import MultitaskPromptTuning
from spjax.methods.p_tuning import PTuning
from spjax.models import T5, T5Config
from spjax.models.losses import token_losses
from spjax.models.t5 import weight_shapes
from spjax.types import Batch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

LENGTH, ROWS, TEXT, TARGET = 5, 3, 7, 4
CONFIG = T5Config(64, 16, 3, 8, 24, 2, 2, logits_via_embedding=True)
_LAYERS = {
    "encoder": {
        "0.SelfAttention": "attention",
        "0.layer_norm": "pre_attention_layer_norm",
        "1.DenseReluDense": "mlp",
        "1.layer_norm": "pre_mlp_layer_norm",
    },
    "decoder": {
        "0.SelfAttention": "self_attention",
        "0.layer_norm": "pre_self_attention_layer_norm",
        "1.EncDecAttention": "encoder_decoder_attention",
        "1.layer_norm": "pre_cross_attention_layer_norm",
        "2.DenseReluDense": "mlp",
        "2.layer_norm": "pre_mlp_layer_norm",
    },
}
_KERNELS = {"q": "query", "k": "key", "v": "value", "o": "out"}


def frozen():
    """A tiny random T5 of transformers, always the same."""
    torch.manual_seed(0)
    shape = transformers.T5Config(
        vocab_size=64,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=3,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(shape).eval()


def place(name):
    """T5X's name of a parameter of transformers."""
    if name == "shared.weight":
        return "token_embedder/embedding"
    stack, *parts = name.removesuffix(".weight").split(".")
    if parts == ["final_layer_norm"]:
        return f"{stack}/{stack}_norm/scale"
    if parts[-1] == "relative_attention_bias":
        return f"{stack}/relpos_bias/rel_embedding"
    _, layer, _, number, module, *leaf = parts
    leaf = f"{_KERNELS.get(leaf[0], leaf[0])}/kernel" if leaf else "scale"
    return f"{stack}/layers_{layer}/{_LAYERS[stack][f'{number}.{module}']}/{leaf}"


def weights():
    """The same weights under T5X's names, kernels turned."""
    leaves = {}
    for name, tensor in frozen().state_dict().items():
        if "embed_tokens" not in name and name != "lm_head.weight":  # copies of `shared`
            turned = place(name).endswith(("kernel", "rel_embedding"))
            leaves[place(name)] = tensor.numpy().T if turned else tensor.numpy()
    tree = trees.unflatten(leaves)
    trees.check_same(tree, weight_shapes(CONFIG), "transformers")
    return tree


@pytest.fixture(scope="module")
def data():
    """Token ids with padding, as NumPy arrays."""
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(3, 64, (ROWS, TEXT)), rng.integers(3, 64, (ROWS, TARGET))
    mask = np.arange(TEXT) < np.array([[TEXT], [TEXT - 3], [1]])
    return ids * mask, mask.astype(np.int64), labels


@pytest.fixture(scope="module")
def ours(data):
    """Rows to loss, gradient and logits, by spjax."""
    ids, mask, labels = data
    front = np.ones((ROWS, LENGTH), np.int64)
    slots = np.hstack([front * np.arange(LENGTH), np.full_like(ids, -1)])
    zero = np.zeros((ROWS, 1))
    parts = (np.hstack([front, ids]), slots, np.hstack([front, mask]), labels, labels > 0)
    batch = Batch(*(jnp.asarray(part, jnp.int32) for part in (*parts, zero, zero)))
    base = weights()

    def loss(rows_PD):
        logits = T5(CONFIG).apply({"params": base}, batch, join([Soft(rows_PD[None])]))
        return jnp.mean(token_losses(logits, batch.targets_BM)), logits

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def theirs(model, data):
    """Loss and logits by PEFT."""
    ids, mask, labels = map(torch.tensor, data)
    out = model(input_ids=ids, attention_mask=mask, labels=labels)
    return out.loss, out.logits.detach().numpy()


@pytest.mark.parametrize("submodules", [None, 1])
def test_an_adapter_of_peft_gives_the_same_here(tmp_path, data, ours, submodules):
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=LENGTH, num_transformer_submodules=submodules
    )
    model = peft.get_peft_model(frozen(), config)
    their_loss, their_logits = theirs(model, data)
    their_loss.backward()
    table = model.prompt_encoder["default"].embedding.weight
    model.save_pretrained(tmp_path)
    rows = prompt_files.read_soft_tokens(tmp_path, width=16, length=LENGTH).soft_tokens_PD
    assert rows.tobytes() == table.detach().numpy()[:LENGTH].tobytes()
    (loss, logits), gradient = ours(rows)
    assert abs(float(loss) - their_loss.item()) < 1e-4
    np.testing.assert_allclose(logits, their_logits, atol=1e-4)
    np.testing.assert_allclose(gradient, table.grad[:LENGTH].numpy(), atol=1e-4)
    assert np.abs(gradient).max() > 1e-3 and not table.grad[LENGTH:].any()


def test_an_adapter_of_ours_gives_the_same_there(tmp_path, data, ours):
    rows = 3 * np.random.default_rng(1).normal(size=(LENGTH, 16)).astype(np.float32)
    folder = prompt_files.write(
        tmp_path / "adapter", Prompt.from_array(rows, {"model": "tiny"}), "peft"
    )
    model = peft.PeftModel.from_pretrained(frozen(), str(folder)).eval()
    loaded = model.prompt_encoder["default"].embedding.weight.detach().numpy()
    assert loaded.tobytes() == rows.tobytes()
    (loss, logits), _ = ours(rows)
    their_loss, their_logits = theirs(model, data)
    assert abs(float(loss) - their_loss.item()) < 1e-4
    np.testing.assert_allclose(logits, their_logits, atol=1e-4)


def test_p_tuning_is_read_as_its_table(tmp_path):
    config = peft.PromptEncoderConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=LENGTH, encoder_hidden_size=8
    )
    model = peft.get_peft_model(frozen(), config).eval()
    model.save_pretrained(tmp_path)
    table = model.get_prompt_embedding_to_save("default").detach().numpy()
    assert (
        prompt_files.read_soft_tokens(tmp_path).soft_tokens_PD.tobytes() == table[:LENGTH].tobytes()
    )


def logits_of(data, weights_tree, soft=None, task=0):
    """Teacher-forced logits of spjax, with slots in front where there is a prompt."""
    ids, mask, labels = data
    length = 0 if soft is None or soft.prompt is None else soft.prompt.shape[-2]
    front = np.ones((ROWS, length), np.int64)
    slots = np.hstack([front * np.arange(length), np.full_like(ids, -1)])
    zero = np.zeros((ROWS, 1))
    text = (np.hstack([front, ids]), slots, np.hstack([front, mask]), labels, labels > 0)
    batch = Batch(*(jnp.asarray(part, jnp.int32) for part in (*text, zero, zero + task)))
    injection = None if soft is None else join([jax.tree.map(lambda x: jnp.asarray(x)[None], soft)])
    return np.asarray(jax.jit(T5(CONFIG).apply)({"params": weights_tree}, batch, injection))


def randomised(model, names):
    """Gives the parameters whose names contain one of `names` numbers that are not trivial."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if any(part in name for part in names):
            parameter.data = 0.3 * torch.randn_like(parameter)
    return model.eval()


def lstm(state, layer, suffix):
    """PyTorch's gates of one direction as Flax has them."""
    names = [f"lstm_head.{part}_l{layer}{suffix}" for part in ("weight_ih", "weight_hh")]
    inner, outer = ([m.T for m in np.split(state[name], 4)] for name in names)
    both = (state[f"lstm_head.{part}_l{layer}{suffix}"] for part in ("bias_ih", "bias_hh"))
    bias = np.split(sum(both), 4)
    cell = {}
    for i, gate in enumerate("ifgo"):
        cell[f"i{gate}"] = {"kernel": inner[i]}
        cell[f"h{gate}"] = {"kernel": outer[i], "bias": bias[i]}
    return {"cell": cell}


@pytest.mark.parametrize("encoder", ["lstm", "mlp"])
def test_p_tuning_writes_the_same_rows(tmp_path, data, encoder):
    config = peft.PromptEncoderConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=LENGTH,
        encoder_hidden_size=6,
        encoder_reparameterization_type=encoder.upper(),
        num_transformer_submodules=1,
    )
    model = peft.get_peft_model(frozen(), config).eval()
    table = model.get_prompt_embedding_to_save("default").detach().numpy()
    state = {k: v.numpy() for k, v in model.prompt_encoder["default"].state_dict().items()}
    heads = sorted({int(name.split(".")[1]) for name in state if name.startswith("mlp_head.")})
    names = [*(f"head_{i}" for i in range(len(heads) - 1)), "head_out"]
    own = {
        name: {"kernel": state[f"mlp_head.{i}.weight"].T, "bias": state[f"mlp_head.{i}.bias"]}
        for name, i in zip(names, heads)
    }
    if encoder == "lstm":
        for layer in (0, 1):
            own[f"lstm_{layer}_forward"] = lstm(state, layer, "")
            own[f"lstm_{layer}_backward"] = lstm(state, layer, "_reverse")
    own["seed"] = state["embedding.weight"]
    method, base = PTuning(length=LENGTH, encoder=encoder, hidden=6), weights()
    shapes = jax.eval_shape(lambda: method.init(jax.random.key(0), base)["params"])
    assert jax.tree.map(np.shape, own) == jax.tree.map(np.shape, shapes)
    soft = method.apply({"params": own}, base)[1]
    np.testing.assert_allclose(soft.prompt, table, atol=1e-5)
    np.testing.assert_allclose(logits_of(data, base, soft), theirs(model, data)[1], atol=1e-4)


def changed(method, prefix, name, tensors):
    """Weights that a method makes of tensors as a run leaves them."""
    own = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return method.apply({"params": {name: trees.unflatten(own)}}, weights())[0]


@pytest.mark.parametrize("rslora", [False, True])
def test_lora_both_ways(tmp_path, data, rslora):
    config = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=2,
        lora_alpha=6,
        use_rslora=rslora,
        target_modules=["q", "v", "wi_0", "wo"],
    )
    model = randomised(peft.get_peft_model(frozen(), config), ["lora_"])
    model.save_pretrained(tmp_path / "a")
    tensors, _ = adapters.read(tmp_path / "a")
    method = LoRA(rank=2, alpha=2, kernels=("query", "value", "wi_0", "wo"))
    logits = logits_of(data, changed(method, "lora/", "factors", tensors))
    np.testing.assert_allclose(logits, theirs(model, data)[1], atol=1e-4)
    safetensors = prompt_files.convert(
        tmp_path / "a", tmp_path / "tuned.safetensors", "safetensors"
    )
    prompt_files.convert(safetensors, tmp_path / "b", "peft")
    again = peft.PeftModel.from_pretrained(frozen(), str(tmp_path / "b")).eval()
    np.testing.assert_allclose(logits, theirs(again, data)[1], atol=1e-4)
    assert np.abs(logits - logits_of(data, weights())).max() > 0.1
    alpha = method.clone(alpha=6.0, rslora=rslora)  # the scale that PEFT has beside the factors
    assert alpha.scale == pytest.approx(6 / (2**0.5 if rslora else 2))


def test_ia3_both_ways(tmp_path, data):
    config = peft.IA3Config(
        task_type="SEQ_2_SEQ_LM", target_modules=["k", "v", "wo"], feedforward_modules=["wo"]
    )
    model = randomised(peft.get_peft_model(frozen(), config), ["ia3_"])
    model.save_pretrained(tmp_path / "a")
    tensors, _ = adapters.read(tmp_path / "a")
    logits = logits_of(data, changed(IA3(), "ia3/", "scales", tensors))
    np.testing.assert_allclose(logits, theirs(model, data)[1], atol=1e-4)
    adapters.write(tmp_path / "b", tensors, {})
    again = peft.PeftModel.from_pretrained(frozen(), str(tmp_path / "b")).eval()
    np.testing.assert_allclose(logits, theirs(again, data)[1], atol=1e-4)


def test_multitask_prompts_both_ways(tmp_path, data):
    config = peft.MultitaskPromptTuningConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=LENGTH,
        num_tasks=3,
        num_ranks=2,
        num_transformer_submodules=1,
    )
    model = peft.get_peft_model(frozen(), config)
    model = randomised(model, ["embedding", "prefix_task"])
    model.save_pretrained(tmp_path / "a")
    tensors, _ = adapters.read(tmp_path / "a")
    adapters.write(tmp_path / "b", tensors, {})
    again = peft.PeftModel.from_pretrained(frozen(), str(tmp_path / "b")).eval()
    method = MultitaskPromptTuning(length=LENGTH, rank=2, tasks=3, task_rate=1.0)
    own = {"factors": {name: tensors[name] for name in ("shared", "u", "v")}}
    soft = method.apply({"params": own}, weights())[1]
    np.testing.assert_allclose(soft.prompt, tensors["prompt"], atol=1e-6)
    ids, mask, labels = map(torch.tensor, data)
    for task in (0, 2):
        logits = logits_of(data, weights(), soft, task)
        for made in (model, again):
            asked = {"input_ids": ids, "attention_mask": mask, "labels": labels}
            out = made(**asked, task_ids=torch.full((ROWS,), task))
            np.testing.assert_allclose(logits, out.logits.detach().numpy(), atol=1e-4)


def test_decoder_prefixes_both_ways(tmp_path, data):
    config = peft.PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=LENGTH, token_dim=24, num_attention_heads=3
    )
    model = randomised(peft.get_peft_model(frozen(), config), ["prompt_encoder"])
    model.save_pretrained(tmp_path / "a")
    tensors, _ = adapters.read(tmp_path / "a")
    # With an even number of layers PEFT gives two of them one prefix.
    np.testing.assert_array_equal(*tensors["prefix/decoder/keys"])
    logits = logits_of(data, weights(), Soft.of(tensors))
    np.testing.assert_allclose(logits, theirs(model, data)[1], atol=1e-4)
    rng = np.random.default_rng(0)
    own = {name: rng.normal(size=x.shape).astype(np.float32) for name, x in tensors.items()}
    adapters.write(tmp_path / "b", own, {})
    again = peft.PeftModel.from_pretrained(frozen(), str(tmp_path / "b")).eval()
    logits = logits_of(data, weights(), Soft.of(own))
    np.testing.assert_allclose(logits, theirs(again, data)[1], atol=1e-4)
    back, _ = adapters.read(tmp_path / "b")
    assert all(np.array_equal(back[name], own[name]) for name in own)
