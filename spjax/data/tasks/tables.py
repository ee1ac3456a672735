"""Tables of all tasks, with source, splits, sizes and lengths, and of their mixtures.

Names are those of T5 and of google-research/prompt-tuning: `super_glue_boolq_v102` keeps the task's
name in front of the text as T5 does, `taskless_super_glue_boolq_v102` leaves it out as Lester et
al. 2021 do. Sizes are those of Lester et al. 2021, table 7, and of the TFDS catalog; WSC and ReCoRD
count records, of which templates make fewer or more training examples. Target lengths are 8, with
which the authors' own runs were made, unless targets are longer texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spjax.data.tasks.formats import FORMATS
from spjax.data.tasks.info import TaskInfo

_ALL = ("train", "validation", "test")
_GLUE_VERSIONS = (("1.0.0", "v002"), ("2.0.0", "v200"))

# Sizes of train, validation and test.
_SUPER_GLUE = {
    "boolq": (9_427, 3_270, 3_245),
    "cb": (250, 56, 250),
    "copa": (400, 100, 500),
    "multirc": (27_243, 4_848, 9_693),
    "record": (100_730, 10_000, 10_000),
    "rte": (2_490, 277, 3_000),
    "wic": (5_428, 638, 1_400),
    "wsc": (554, 104, 146),
}
_GLUE = {
    "cola": (8_551, 1_043, 1_063),
    "sst2": (67_349, 872, 1_821),
    "mrpc": (3_668, 408, 1_725),
    "qqp": (363_849, 40_430, 390_965),
    "stsb": (5_749, 1_500, 1_379),
    "qnli": (104_743, 5_463, 5_463),
    "rte": (2_490, 277, 3_000),
    "wnli": (635, 71, 146),
}
_MNLI = {"matched": (9_815, 9_796), "mismatched": (9_832, 9_847)}
# MRQA 2019: sizes of train and validation, or of the only split, which TFDS calls "test".
_MRQA_IN_DOMAIN = {
    "news_qa": (74_160, 4_212),
    "trivia_qa": (61_688, 7_785),
    "search_qa": (117_384, 16_980),
    "hotpot_qa": (72_928, 5_901),
    "natural_questions": (104_071, 12_836),
}
MRQA_OUT_OF_DOMAIN = {
    "bio_asq": 1_504,
    "drop": 1_503,
    "duo_rc": 1_501,
    "race": 674,
    "relation_extraction": 2_948,
    "textbook_qa": 1_503,
}

# T5's examples-proportional rates of SuperGLUE with DPR (Raffel et al. 2020): training examples.
_SUPER_GLUE_RATES = {
    "dpr_v001_simple": 1_322,
    "super_glue_wsc_and_dev_v102_simple": 259,
    "super_glue_boolq_v102": 9_427,
    "super_glue_cb_v102": 250,
    "super_glue_copa_v102": 400,
    "super_glue_multirc_v102": 27_243,
    "super_glue_record_v102": 138_854,
    "super_glue_rte_v102": 2_490,
    "super_glue_wic_v102": 5_428,
}
_GLUE_RATES = {
    name: sizes[0] for name, sizes in ({"mnli": (392_702,)} | _GLUE).items() if name != "wnli"
}


_SHIFTED = ("boolq", "cb", "rte", "sentiment")  # graded tasks with a shift of genre and vocabulary


def rows() -> Iterator[TaskInfo]:
    """Yields all tasks, in the order in which they are listed."""
    yield from _pocket()
    yield from _super_glue()
    for version, label in _GLUE_VERSIONS:
        yield from _glue(version, label)
    yield from _questions()
    yield from _generation()


def _pocket() -> Iterator[TaskInfo]:
    datasets = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
    worlds = (("pocket_", "", "2.0.0", "pocket"), ("graded_", "graded_", "2.0.0", "graded"))
    for prefix, source, version, vocabulary in worlds:
        names = [*zip(datasets, datasets), ("sentiment", "sst2")]
        if source:
            names += [
                (name + shift, dataset)
                for name, dataset in names
                if name in _SHIFTED
                for shift in ("_notes", "_rare")
            ]
        for name, dataset in names:
            yield TaskInfo(
                name=f"{prefix}{name}",
                format=FORMATS[dataset],
                source=f"pocket:{source}{name}",
                version=version,
                input_length=128,  # the longest text of the worlds has some 60 tokens
                target_length=16,
                vocabulary=vocabulary,
            )


def _tfds(
    name: str,
    dataset: str,
    source: str,
    sizes: tuple[int, ...],
    t5_lengths: tuple[int, ...] = (),
    target_length: int = 8,
    **others: Any,
) -> TaskInfo:
    """Returns the row of a TFDS dataset; `source` is its TFDS name, version included."""
    return TaskInfo(
        name=name,
        format=FORMATS[dataset],
        source=f"tfds:{source}",
        version=source.partition(":")[2],
        input_length=512,
        target_length=target_length,
        vocabulary="t5",
        sizes=sizes,
        t5_lengths=t5_lengths,
        **others,
    )


def _both(name: str, *facts: Any, **others: Any) -> Iterator[TaskInfo]:
    """Yields two rows: the text without, and with, the name of the task."""
    yield _tfds(f"taskless_{name}", *facts, **others)
    yield _tfds(name, *facts, with_task_name=True, **others)


def _super_glue() -> Iterator[TaskInfo]:
    facts: tuple[Any, ...]
    texts = {"record": 62, "wsc": 62}  # answers that are no label
    for name, sizes in _SUPER_GLUE.items():
        task = "wsc_and_dev_v102_simple" if name == "wsc" else f"{name}_v102"
        yield from _both(
            f"super_glue_{task}",
            name,
            f"super_glue/{'wsc.fixed' if name == 'wsc' else name}:1.0.2",
            sizes,
            (512, 62),
            texts.get(name, 8),
            unlabelled=("test",),
        )
    for name, size in {"axb": 1_104, "axg": 356}.items():
        facts = (name, f"super_glue/{name}:1.0.2", (size,), (512, 62))
        only = {"splits": ("test",), "unlabelled": ("test",)}
        yield from _both(f"super_glue_{name}_v102", *facts, **only)
    facts = ("dpr", "definite_pronoun_resolution:1.1.0", (1_322, 564), (512, 62), 62)
    # TFDS has no more than two splits of it; the second one chooses the checkpoint.
    two: dict[str, Any] = {"splits": _ALL[:2], "source_splits": (("validation", "test"),)}
    yield from _both("dpr_v001_simple", *facts, **two)


def _glue(version: str, label: str) -> Iterator[TaskInfo]:
    facts: tuple[Any, ...]
    sizes: tuple[int, ...]
    for name, sizes in _GLUE.items():
        facts = (name, f"glue/{name}:{version}", sizes, (512, 84))
        yield from _both(f"glue_{name}_{label}", *facts, unlabelled=("test",))
    for part, sizes in _MNLI.items():
        splits = tuple((split, f"{split}_{part}") for split in ("validation", "test"))
        common: dict[str, Any] = {"source_splits": splits, "unlabelled": ("test",)}
        facts = ("mnli", f"glue/mnli:{version}")
        if part == "matched":
            whole = (*facts, (392_702, *sizes), (512, 84))
            yield from _both(f"glue_mnli_{label}", *whole, **common)
        common["splits"] = _ALL[1:]
        yield from _both(f"glue_mnli_{part}_{label}", *facts, sizes, (512, 84), **common)
    only = {"splits": ("test",), "unlabelled": ("test",)}
    facts = ("ax", f"glue/ax:{version}", (1_104,), (512, 84))
    yield from _both(f"glue_ax_{label}", *facts, **only)
    for target, source in (("mrpc", "qqp"), ("qqp", "mrpc")):
        name = f"{target}_from_{source}"
        facts = (name, f"glue/{target}:{version}", _GLUE[target][1:2], (512, 84))
        yield from _both(f"glue_{name}_{label}", *facts, splits=("validation",))


def _questions() -> Iterator[TaskInfo]:
    two, one = _ALL[:2], ("validation",)
    facts: tuple[Any, ...]
    facts = ("squad", "squad/v1.1:3.0.0", (87_599, 10_570), (512, 97), 97)
    yield _tfds("squad_v010_allanswers", *facts, splits=two)
    for name, sizes in _MRQA_IN_DOMAIN.items():
        yield _tfds(f"mrqa_{name}_v100", "mrqa", f"mrqa/{name}:1.0.0", sizes, (), 97, splits=two)
    for name, size in MRQA_OUT_OF_DOMAIN.items():
        facts = ("mrqa", f"mrqa/{name}:1.0.0", (size,), (), 97)
        only: dict[str, Any] = {"splits": one, "source_splits": (("validation", "test"),)}
        yield _tfds(f"mrqa_{name}_v100", *facts, **only)


def _generation() -> Iterator[TaskInfo]:
    facts: tuple[Any, ...]
    facts = ("xsum", "xsum:1.1.0", (203_577, 11_305, 11_301), (), 64)
    yield from _both("xsum_v110", *facts)
    facts = ("samsum", "samsum:1.0.0", (14_732, 818, 819), (), 64)
    yield from _both("samsum_v100", *facts)
    facts = ("wmt16_enro", "wmt16_translate/ro-en:1.0.0", (610_320, 1_999, 1_999), (512, 512), 128)
    yield from _both("wmt16_enro_v003", *facts)
    facts = ("cnn_dailymail", "cnn_dailymail:3.4.0", (287_113, 13_368, 11_490), (), 128)
    yield from _both("cnn_dailymail_v002", *facts)
    sizes = (16_142, 2_482, 4_201)  # dialogues, of which each makes several examples
    facts = ("schema_guided_dialogue", "schema_guided_dialogue:1.0.0", sizes, (), 64)
    yield from _both("schema_guided_dialogue_v100", *facts, source_splits=(("validation", "dev"),))


def mixtures() -> Mapping[str, Mapping[str, tuple[str, ...] | Mapping[str, float]]]:
    """Returns all mixtures, each with training rates (`rates`), `scored` tasks and transfers.

    `scored` is left out where it is all that is trained on, `transfer` where there is none.
    """
    mixtures_by_name: dict[str, dict] = {}
    for prefix in ("", "taskless_"):
        rates = {f"{prefix}{name}": rate for name, rate in _SUPER_GLUE_RATES.items()}
        scored = tuple(name for name in rates if "dpr" not in name)
        mixtures_by_name[f"{prefix}super_glue_v102_proportional"] = {
            "rates": rates,
            "scored": scored,
        }
        for _, label in _GLUE_VERSIONS:
            rates = {f"{prefix}glue_{name}_{label}": rate for name, rate in _GLUE_RATES.items()}
            scored = (*rates, f"{prefix}glue_mnli_mismatched_{label}")
            mixtures_by_name[f"{prefix}glue_{label}_proportional"] = {
                "rates": rates,
                "scored": scored,
            }
            for target, source in (("mrpc", "qqp"), ("qqp", "mrpc")):
                mixtures_by_name[f"{prefix}glue_{target}_from_{source}_zeroshot_{label}"] = {
                    "rates": {f"{prefix}glue_{source}_{label}": 1},
                    "transfer": (f"{prefix}glue_{target}_from_{source}_{label}",),
                }
    mixtures_by_name["squad_to_mrqa"] = {
        "rates": {"squad_v010_allanswers": 1},
        "transfer": tuple(f"mrqa_{name}_v100" for name in MRQA_OUT_OF_DOMAIN),
    }
    names = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
    for world in ("pocket", "graded"):
        rates = {f"{world}_{name}": 1 for name in names}
        mixtures_by_name[f"{world}_super_glue_equal"] = {"rates": rates}
    for name in (f"graded_{name}" for name in _SHIFTED):
        mixtures_by_name[f"{name}_to_shifted"] = {
            "rates": {name: 1},
            "transfer": (f"{name}_notes", f"{name}_rare"),
        }
        mixtures_by_name[f"{name}_from_notes"] = {
            "rates": {f"{name}_notes": 1},
            "transfer": (name,),
        }
    return mixtures_by_name
