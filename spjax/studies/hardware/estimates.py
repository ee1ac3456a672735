"""Memory and time of a training step, modeled from shapes.

For TPUs the compiler has the last word on memory (`tpu_compiler`); the model only says what is
worth compiling. Time is modeled for all devices: operations, bytes moved and bytes sent, each over
the chip's peak rate, times efficiencies of a good and of a poor program.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from spjax.data.batching import chunk_shapes
from spjax.data.batching.packing import ChunkShape
from spjax.models import T5Config
from spjax.models.flops import forward_flops
from spjax.partitioning import Placement
from spjax.studies.hardware.settings import TYPICAL, Setting
from spjax.studies.hardware.topologies import Chip
from spjax.training import lowering
from spjax.training.run import Run

# Shares of the peak rates of products, memory and interconnect, in a good and in a poor program.
# The good one overlaps the three, the poor one does one after the other. Nothing was measured.
GOOD, POOR = (0.6, 0.9, 0.9), (0.25, 0.5, 0.5)
_WORKSPACE = 1.15  # of what is kept for the backward pass: copies, padding, fragments
# Of a step: assembly of its batch and dispatch; a tenth where several go in one dispatch.
_HOST_SECONDS = 2e-3


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each device.

    Attributes:
      weights: of the frozen model.
      state: trainable parameters, optimizer slots, gradients, and copies of parameters in a step.
      activations: everything else that a program needs while it runs.
      program: compiled code.
    """

    weights: float
    state: float
    activations: float
    program: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.state + self.activations + self.program


class StepModel:
    """Modeled memory and time of a gang's step in some setting.

    Attributes:
      answered: rows of a batch of an evaluation, their positions, and those of an answer.
    """

    def __init__(
        self,
        run: Run,
        config: T5Config,
        setting: Setting,
        shape: ChunkShape,
        evaluated: tuple[int, int],
    ) -> None:
        """Args:
        run: one of the gang.
        config: of its model.
        setting: that it trains in.
        shape: of the largest chunk of rows.
        evaluated: the most tokens of an input, without prompt, and of a target in evaluations.
        """
        self.run, self.config, self.setting, self.shape = run, config, setting, shape
        longest = (run.method.prompt_length + evaluated[0], evaluated[1])
        rows = -(-run.eval_batch_size // setting.data) * setting.data
        self.answered = (rows, chunk_shapes.plain(*longest, rows)[0].length, evaluated[1])
        self.place: Placement = setting.placement()
        step = lowering.step_shapes(setting.applied(run), config, self.place, shape, setting.runs)
        self.config = step.config.model
        self.base_bytes = lowering.bytes_on_device(step.base)
        self.state_bytes = lowering.bytes_on_device((step.states, step.inputs, step.sums))
        self.sum_bytes = lowering.bytes_on_device(step.sums)
        self._size = 2 if self.config.dtype == "bfloat16" else 4

    def _local(self, axes: tuple[Any, ...], shape: tuple[int, ...]) -> int:
        """Returns the elements of an array on one device."""
        return math.prod(self.place.sharding(axes, shape).shard_shape(shape))

    @property
    def _rows(self) -> int:
        return self._local(("batch",), (self.shape.rows,))

    def memory(self) -> Memory:
        """Returns the bytes of a training step."""
        layers = self.config.num_encoder_layers, self.config.num_decoder_layers
        encoder, decoder = self._encoder_layer(self.shape.length), self._decoder_layer()
        if self.setting.remat:
            a, width = self._size, self.config.emb_dim
            inputs = (self.shape.length, self.shape.target_length)
            kept = float(sum(a * n * width * count for n, count in zip(inputs, layers)))
            kept += 2 * max(encoder, decoder)
        else:
            kept = encoder * layers[0] + decoder * layers[1]
        shards = self._local(("vocab",), (self.config.vocab_size,))
        kept += 3 * 4 * self.shape.target_length * shards
        activations = _WORKSPACE * kept * self._rows + self._weight_copies()
        if self.run.method.changes_weights:
            activations += self.sum_bytes  # of a chunk, before they are added
        return Memory(self.base_bytes, self.state_bytes, activations)

    def answers(self) -> float:
        """Returns the bytes of activations while answers of an evaluation are decoded."""
        c, (rows, length, targets) = self.config, self.answered
        inner = self._local(("heads",), (c.num_heads,)) * c.head_dim
        # Keys and values of the encoding and of the positions written, for every decoder layer.
        keys = 2 * c.num_decoder_layers * inner * (length + max(8, targets))
        keys *= max(1, self.run.num_beams)  # a beam has its own
        kept = self._size * keys + self._encoder_layer(length)
        return rows // self.setting.data * kept + self._weight_copies()

    def _encoder_layer(self, length: int) -> float:
        """Returns the bytes that a row keeps in an encoder layer for the backward pass."""
        c = self.config
        heads = self._local(("heads",), (c.num_heads,))
        hidden = self._local(("mlp",), (c.mlp_dim,))
        streams = length * (4 * c.emb_dim + 4 * heads * c.head_dim + 4 * hidden)
        return self._size * streams + heads * length**2 * self._score_bytes

    def _decoder_layer(self) -> float:
        c, length, sources = self.config, self.shape.target_length, self.shape.length
        heads = self._local(("heads",), (c.num_heads,))
        hidden = self._local(("mlp",), (c.mlp_dim,))
        streams = length * (6 * c.emb_dim + 6 * heads * c.head_dim + 4 * hidden)
        # Of cross-attention: keys and values, or queries' views of the encoding.
        cross = min(2 * sources * heads * c.head_dim, 3 * length * heads * c.emb_dim)
        scores = heads * length * (length + sources) * self._score_bytes
        return self._size * (streams + cross) + scores

    @property
    def _score_bytes(self) -> int:
        """Bytes kept of a query's weight on a key: float32 softmax, its use, dropped ones."""
        return 4 + (2 + (self.run.dropout_rate > 0)) * self._size

    def _weight_copies(self) -> float:
        """Returns the bytes of weights that are gathered from other devices or converted."""
        c = self.config
        layer = self._gathered_bytes() / (c.num_encoder_layers + c.num_decoder_layers)
        gathered = 2 * layer if self._is_fsdp() else 0.0
        converts = self.setting.weights_dtype == "float32" and self._size == 2
        return gathered + (self.base_bytes / 2 if converts else 0.0)

    def _is_fsdp(self) -> bool:
        width = self.config.emb_dim
        return self._local(("embed",), (width,)) < width

    def _gathered_bytes(self) -> float:
        """Returns the bytes of all weights that a device reads in one pass, in bfloat16 or int8."""
        spread = self.setting.data if self._is_fsdp() else 1
        shrinks = 2 if self.setting.weights_dtype == "float32" and self._size == 2 else 1
        return self.base_bytes * spread / shrinks

    @property
    def passes(self) -> int:
        """Passes through the model in a step: forward, back through frozen or trained weights."""
        return (3 if self.run.method.changes_weights else 2) + self.setting.remat

    def loads(self, shape: ChunkShape) -> tuple[float, float, float]:
        """Returns operations, bytes moved and bytes sent of a device in a step."""
        c, parts = self.config, self.setting.microbatches
        split = self._local(("mlp",), (c.mlp_dim,)) / c.mlp_dim
        rows = math.ceil(shape.rows / self.setting.data)
        forward = forward_flops(c, shape.length, shape.target_length)
        operations = 1.0 * parts * self.passes * rows * forward * split
        streams = self._size * shape.length * c.emb_dim * rows * split * 30 * c.num_encoder_layers
        moved = parts * self.passes * (self._gathered_bytes() + streams)
        moved += 4.0 * self.state_bytes if self.run.method.changes_weights else 0.0
        sent = 0.0
        if self._is_fsdp():
            share = (self.setting.data - 1) / self.setting.data
            sent += parts * self.passes * share * self._gathered_bytes()
        if split < 1:  # two sums over `model` for each layer and direction
            share = 2 * (self.setting.model - 1) / self.setting.model
            layers = 1.0 * c.num_encoder_layers * shape.length
            layers += 1.5 * c.num_decoder_layers * shape.target_length
            sent += parts * self.passes * 2 * share * layers * rows * c.emb_dim * self._size
        if self.run.method.changes_weights and self.setting.data > 1:
            sent += 2 * self.sum_bytes
        return operations, moved, sent

    def seconds(self, chip: Chip, shortest: ChunkShape) -> tuple[float, float]:
        """Returns the least and the most seconds of a step.

        Args:
          chip: that runs it.
          shortest: a chunk of rows of a batch of short examples, for the least.
        """
        rates = (chip.flops, chip.bandwidth, chip.interconnect)
        least = max(x / (r * e) for x, r, e in zip(self.loads(shortest), rates, GOOD))
        most = sum(x / (r * e) for x, r, e in zip(self.loads(self.shape), rates, POOR))
        return least + _HOST_SECONDS / 10, most + _HOST_SECONDS

    def evaluation_seconds(self, chip: Chip, examples: int) -> tuple[float, float]:
        """Returns the least and the most seconds in which some examples are answered.

        The least is that of inputs with a part of the length of those in training, the most that
        of the longest in evaluations.
        """
        c, batches = self.config, math.ceil(examples / self.run.eval_batch_size)
        rows, longest, targets = self.answered
        work = batches * rows / self.setting.data * self._local(("mlp",), (c.mlp_dim,)) / c.mlp_dim
        moved = batches * (1 + 0.5 * targets) * self._gathered_bytes()
        seconds = [
            (
                work * forward_flops(c, length, targets) / (chip.flops * e[0]),
                moved / (chip.bandwidth * e[1]),
            )
            for e, length in ((GOOD, min(self.shape.length, longest)), (POOR, longest))
        ]
        return TYPICAL * max(seconds[0]), sum(seconds[1])
