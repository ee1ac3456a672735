"""The training core: optimizers, mesh, step, evaluation, checkpoints, the loop. No TensorFlow."""
