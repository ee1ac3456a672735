"""Floating-point operations of a forward pass."""

from __future__ import annotations

from spjax.models.sizes import T5Config


def forward_flops(
    config: T5Config, inputs: int, targets: int, score_weight: float = 1.0
) -> float:
    """Operations of one row's forward pass: 2 for each weight and position.

    Args:
      config: shape of the model.
      inputs: encoder positions, prompt included.
      targets: decoder positions.
      score_weight: what an operation between two positions counts, against one with a weight;
        more than 1 where what is wanted is time.
    """
    inner = config.num_heads * config.head_dim
    attention = 4 * config.emb_dim * inner
    mlp = (len(config.mlp_activations) + 1) * config.emb_dim * config.mlp_dim
    encoder = config.num_encoder_layers * (attention + mlp) * inputs
    # Cross-attention projects keys and values once per encoder position.
    decoder = config.num_decoder_layers * (
        (1.5 * attention + mlp) * targets + 0.5 * attention * inputs
    )
    scores = 2 * inner * config.num_encoder_layers * (inputs**2 + targets**2 + inputs * targets)
    logits = config.vocab_size * config.emb_dim * targets
    return 2.0 * (encoder + decoder + score_weight * scores + logits)
