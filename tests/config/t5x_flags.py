"""Flags of T5X with which the authors' files train a prompt."""

FLAGS = (
    "MODEL_DIR='/tmp/run'",
    "MIXTURE_OR_TASK_NAME='taskless_glue_sst2_v200'",
    "TASK_FEATURE_LENGTHS={'inputs': 512, 'targets': 8}",
    "INITIAL_CHECKPOINT_PATH='gs://bucket/checkpoint_1100000'",
    "TRAIN_STEPS=1_100_300",
    "CLASS_LABELS=['yes', 'no']",
)
