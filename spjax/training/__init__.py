"""Training of runs and gangs: configuration, optimizers, losses, the step, the loop."""
