"""Runs T5X's own `train.py` with gin files and flags, on batches from a file.

`python tests/parity/t5x_program.py JOB.json`: a process of its own, since gin's names of T5X and of
spjax clash, and since T5X's gin files refer to `__main__`. The job has `folders`, `gin_files` and
`bindings` as T5X's flags, and `batches`: an .npz of features with the rows of all batches in order,
which stand in for what seqio would read.
"""

import json
import sys


def main(path):
    """Trains as the job says."""
    global train  # `__main__.train` in T5X's gin files
    from tests.parity import t5x_shims

    t5x_shims.prepare()
    import gin
    import numpy as np
    import tensorflow as tf
    from t5x.train import train

    with open(path, encoding="utf-8") as file:
        job = json.load(file)

    def dataset(config, *_):
        rows = tf.data.Dataset.from_tensor_slices(dict(np.load(job["batches"])))
        return rows.batch(config.batch_size, drop_remainder=True)

    for folder in job["folders"]:
        gin.add_config_file_search_path(folder)
    gin.parse_config_files_and_bindings(job["gin_files"], job["bindings"])
    gin.get_configurable(train)(get_dataset_fn=dataset, verify_matching_vocabs_fn=None)


if __name__ == "__main__":
    main(sys.argv[1])
