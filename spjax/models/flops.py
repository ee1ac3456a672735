"""Floating-point operations of a forward pass."""

from __future__ import annotations

from spjax.models.sizes import T5Config


def forward_flops(config: T5Config, inputs: int, targets: int, score_weight: float = 1.0) -> float:
    """Returns operations of one row's forward pass: 2 for each weight and position.

    Args:
      config: shape of the model.
      inputs: encoder positions, prompt included.
      targets: decoder positions.
      score_weight: cost of an operation between two positions, relative to one with a weight;
        more than 1 for estimates of time.
    """
    width, inner = config.emb_dim, config.num_heads * config.head_dim
    attention = 4 * width * inner
    mlp = (len(config.mlp_activations) + 1) * width * config.mlp_dim
    encoder = config.num_encoder_layers * (attention + mlp) * inputs
    # Cross-attention projects every encoder position to its key and value, or where that takes
    # less, every decoder position to all heads' views of the encoding (`Attention.sources`).
    projected = 2 * width * inner * inputs + 2 * inner * inputs * targets * score_weight
    folded = 2.0 * width * inner * targets
    folded += 2 * config.num_heads * width * inputs * targets * score_weight
    decoder = config.num_decoder_layers * (
        (1.5 * attention + mlp) * targets + min(projected, folded)
    )
    scores = (
        2 * inner * (config.num_encoder_layers * inputs**2 + config.num_decoder_layers * targets**2)
    )
    logits = config.vocab_size * width * targets
    return 2.0 * (encoder + decoder + score_weight * scores + logits)
