"""The benchmark of the corpus loader measures what it says."""

from benchmarks import corpus_loader
from spjax.data.corpora.corpus_files import Corpus


def test_measures(tmp_path):
    corpus_loader.make_corpus(tmp_path, 80_000)
    corpus = Corpus(tmp_path)
    assert corpus.manifest["tokens"] == 80_000 and len(corpus.manifest["shards"]) == 8
    found = corpus_loader.measure(corpus, rows=4, seconds=0.2, spans=True)
    assert found["tokens_per_s"] > 0 and found["rows_per_s"] > 0
    assert found["filled_inputs_targets"][0] > 0.95  # but for the end of 128 documents
    assert found["resident_mib"][0] > 0
