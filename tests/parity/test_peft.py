"""The same prompt in PEFT and in spjax: same bits, logits, loss and gradient.

Needs torch, transformers and peft; tried with peft 0.21.2 and transformers 5.23.0.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import trees
from spjax.checkpoints import prompts
from spjax.checkpoints.prompts import Prompt
from spjax.models import T5, T5Config
from spjax.models.t5 import weight_shapes
from spjax.training.losses import token_losses
from spjax.types import Batch, join_prompts

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
        vocab_size=64, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=3, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0,
    )  # fmt: skip
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
        logits = T5(CONFIG).apply({"params": base}, batch, join_prompts([rows_PD[None]]))
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
    rows = prompts.read(tmp_path, width=16, length=LENGTH).rows_PD
    assert rows.tobytes() == table.detach().numpy()[:LENGTH].tobytes()
    (loss, logits), gradient = ours(rows)
    assert abs(float(loss) - their_loss.item()) < 1e-4
    np.testing.assert_allclose(logits, their_logits, atol=1e-4)
    np.testing.assert_allclose(gradient, table.grad[:LENGTH].numpy(), atol=1e-4)
    assert np.abs(gradient).max() > 1e-3 and not table.grad[LENGTH:].any()


def test_an_adapter_of_ours_gives_the_same_there(tmp_path, data, ours):
    rows = 3 * np.random.default_rng(1).normal(size=(LENGTH, 16)).astype(np.float32)
    folder = prompts.write(tmp_path / "adapter", Prompt(rows, {"model": "tiny"}), "peft")
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
    assert prompts.read(tmp_path).rows_PD.tobytes() == table[:LENGTH].tobytes()
