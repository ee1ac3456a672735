"""From token ids to batches: slots, packed rows, iterators."""
