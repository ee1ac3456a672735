"""The method of T5X's bindings: which parameters are trained, from which start, how fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spjax.config.t5x import kinds
from spjax.config.t5x.draft import DIFFERS, NOT_NEEDED, Call, Draft
from spjax.config.t5x.gin_files import Bindings, Reference, short
from spjax.config.t5x.model_settings import RESTORE, WAYWARD, name_of, refuse, required
from spjax.methods.base import UNKNOWN
from spjax.vocabularies.vocabulary import load_vocabulary

PROMPTS = "prompt_tuning.prompts"
IN_TRAINING = "prompt_tuning.train.prompts.Prompt"
ADAFACTOR = "t5x.adafactor.Adafactor"
_MULTI = "t5x.optimizers.MultiOptimizer"
_UNIFORM = "flax.linen.initializers.uniform"
_RATE = "t5x.utils.create_learning_rate_scheduler"
_WAYWARD_MODULE = "prompt_tuning.extended.train.wayward"
_TRAINED = {(".*/prompt/.*",): "prompt_tuning", (".*/ia3_scaling.*",): "ia3"}
_NO_CLIPPING = 1_000_000_000  # an update's root mean square never gets there
_NEVER = 1_000_000_000  # no dimension is as large
_TABLE = "token_embedder/embedding"
_SAMPLED = "from_sample_of_embeddings"


def trained_part(draft: Draft, model: str) -> str:
    """Returns the name of spjax's method: "prompt_tuning", "ia3" or "full_fine_tuning".

    Raises:
      ValueError: other parameters are trained, or by another optimizer than Adafactor.
    """
    bindings = draft.bindings
    optimizer = name_of(required(bindings, model, "optimizer_def"), "OPTIMIZER")
    method = "full_fine_tuning"
    if optimizer == _MULTI:
        name = "MultiOptimizer.traversals_and_optimizers"
        pairs = kinds.sequence(name, required(bindings, _MULTI, "traversals_and_optimizers"))
        if len(pairs) != 1:
            raise refuse(f"{len(pairs)} optimizers at once", "a run of spjax has one.")
        pair = kinds.sequence(f"{name}[0]", pairs[0])
        if len(pair) != 2:
            raise ValueError(f"{name} has {pair!r}, which is not a traversal and an optimizer.")
        traversal, second = pair
        optimizer = name_of(second, "the optimizer of MultiOptimizer")
        chooser = required(bindings, name_of(traversal, "its traversal"), "filter_fn")
        regexes = required(bindings, name_of(chooser, "its filter_fn"), "regexes")
        regexes = kinds.texts("PROMPT_REGEX", regexes)
        if regexes not in _TRAINED:
            raise refuse(
                f"training the parameters that match {', '.join(regexes)}",
                "its methods train a prompt (.*/prompt/.*), IA3's scales (.*/ia3_scaling.*) or all "
                "weights.",
            )
        method = _TRAINED[regexes]
    if optimizer != ADAFACTOR:
        raise refuse(
            f"the optimizer {short(optimizer)}",
            "translated is adafactor.Adafactor; Run.optimizer = @AdamW() is spjax's other one.",
        )
    return method


def set_prompt(draft: Draft, model: str, own_vocabulary: str) -> int:
    """Takes over length and start of a prompt.

    Returns:
      The length.

    Raises:
      ValueError: the prompt is of a kind that spjax has not.
    """
    bindings = draft.bindings
    prompt = name_of(bindings.macro("PROMPT"), "PROMPT")
    inner = bindings.get(prompt, "prompt", "", None)
    inner_name = inner.name if isinstance(inner, Reference) else ""
    if prompt != IN_TRAINING or inner_name != f"{PROMPTS}.Prompt":
        raise refuse(
            f"PROMPT = @{short(prompt)}",
            "multitask prompts of that code add a vector for each task; spjax's "
            "MultitaskPromptTuning multiplies (Wang et al. 2023).",
        )
    if bindings.macro("PER_LAYER_PROMPT") is not None:
        raise refuse("PER_LAYER_PROMPT", "its prompts stand at the input; see prefix tuning.")
    _set_place(draft)
    text = _wayward(draft, model)
    length = bindings.get(f"{PROMPTS}.Prompt", "length", "", None)
    if isinstance(length, Reference) and length.name == f"{_WAYWARD_MODULE}.length":
        bindings.get(f"{_WAYWARD_MODULE}.length", "x", "", None)
        if own_vocabulary:
            raise refuse("PROMPT_LENGTH = @wayward.length()", "give the number for mT5.")
        tokens = load_vocabulary("t5").encode(text)
        if UNKNOWN in tokens:
            raise refuse(
                "a wayward prompt of a text with pieces that T5's vocabulary lacks (<unk>)",
                f"give other words with --gin.TASK_STRING=...; the text is {text!r}.",
            )
        length = len(tokens)
    length = kinds.whole("PROMPT_LENGTH", length, 1)
    draft.set("PROMPT_LENGTH", length, "PROMPT_LENGTH")
    _set_start(draft)
    return length


def _set_place(draft: Draft) -> None:
    """Takes over where the prompt stands."""
    bindings = draft.bindings
    combine = bindings.get(IN_TRAINING, "combine", "", None)
    if combine is None:
        return
    name = name_of(combine, "Prompt.combine")
    kind = name.rpartition(".")[2]
    in_front = kind == "suffix_prompt" and bindings.get(name, "before_eos", "", True)
    at_end = in_front and not bindings.get(name, "decoder_only", "", False)
    place = {"prefix_prompt": "front", "prefix_prompt_after_bos": "after_first"}.get(kind, "")
    place = "end" if at_end else place
    if not place:
        raise refuse(f"Prompt.combine = {combine}", "see PromptTuning.place for its places.")
    draft.set("PromptTuning.place", place, "Prompt.combine")


def _set_start(draft: Draft) -> None:
    bindings = draft.bindings
    start = bindings.get(f"{PROMPTS}.Prompt", "prompt_init", "", None)
    if start is None:
        start = Reference("", _UNIFORM, True)
    name, scope = name_of(start, "Prompt.prompt_init"), start.scope
    kind = name.rpartition(".")[2]
    if name == _UNIFORM:
        scale = kinds.number("uniform.scale", bindings.get(_UNIFORM, "scale", scope, 0.01))
        draft.set("INITIALIZER", Call("@Uniform()"), f"@{short(name)}()")
        draft.set("Uniform.low", 0.0, "initializers.uniform.scale", "Flax's uniform is one-sided")
        draft.set("Uniform.high", float(scale), "initializers.uniform.scale")
    elif kind == _SAMPLED:
        draft.set("INITIALIZER", Call("@SampledVocabulary()"), f"@{short(name)}()")
        _set_population(draft, "SampledVocabulary", scope)
    elif kind == "from_embedded_list":
        labels = kinds.texts("CLASS_LABELS", required(bindings, name, "texts", scope))
        draft.set("INITIALIZER", Call("@ClassLabels()"), f"@{short(name)}()")
        draft.set("ClassLabels.labels", labels, "CLASS_LABELS")
        _check_filling(draft, name, scope, "ClassLabels")
    elif kind == "from_embedded_string":
        draft.set("INITIALIZER", Call("@Text()"), f"@{short(name)}()")
        draft.set("Text.text", _text_of(draft, name, scope), "prompts.from_embedded_string.text")
        _check_filling(draft, name, scope, "Text")
    elif kind == "from_array":
        loader = required(bindings, name, "prompt", scope)
        inner = loader.scope or scope if isinstance(loader, Reference) else scope
        path = required(bindings, name_of(loader, "prompts.from_array.prompt"), "path", inner)
        draft.set("INITIALIZER", Call("@FromFile()"), f"@{short(name)}()")
        draft.set("FromFile.path", kinds.text("PROMPT_FILE", path), "PROMPT_FILE")
    else:
        known = "uniform, from_sample_of_embeddings, from_embedded_list, from_embedded_string"
        raise refuse(f"prompt_init = {start}", f"its starts are {known} and from_array.")
    _check_table(draft, name, scope)


def _check_table(draft: Draft, name: str, scope: str) -> None:
    """Notes that the embeddings of a start are those of the frozen model."""
    for owner in (name, f"{PROMPTS}.{_SAMPLED}"):
        loader = draft.bindings.get(owner, "embeddings", scope, None)
        if not isinstance(loader, Reference):
            continue
        inner, text = loader.scope or scope, "embeddings are those of the frozen model"
        known = {
            "checkpoint_path": (None, draft.bindings.get(RESTORE, "path", "", None)),
            "variable_path": (None, _TABLE, f"target/{_TABLE}"),
        }
        for parameter, same in known.items():
            value = draft.bindings.get(loader.name, parameter, inner, None)
            if value not in same:
                draft.note(DIFFERS, f"{short(loader.name)}.{parameter} = {value!r}", text)
        draft.bindings.get(loader.name, "path", inner, None)
        file = "EMBEDDING_FILE" if loader.name.endswith("np_load") else "prompts.t5x_load"
        draft.note(NOT_NEEDED, file, text)


def _set_population(draft: Draft, owner: str, scope: str) -> None:
    name = f"{PROMPTS}.{_SAMPLED}"
    population = draft.bindings.get(name, "population_size", scope, None)
    binding = f"prompts.{_SAMPLED}.population_size"
    if population is None:  # of the whole table; spjax lowers what is beyond its rows
        population = _NEVER
    population = kinds.whole(binding, population, 1)
    draft.set(f"{owner}.population", population, binding)


def _check_filling(draft: Draft, name: str, scope: str, owner: str) -> None:
    """Takes over the start of the soft tokens for which there is no word."""
    filling = draft.bindings.get(name, "initializer", scope, None)
    if isinstance(filling, Reference) and filling.name == f"{PROMPTS}.{_SAMPLED}":
        _set_population(draft, owner, filling.scope or scope)
        return
    shown = str(filling) if filling else "None, which is uniform"
    if owner == "Text" and draft.bindings.macro("TASK_PIECES") is not None:
        draft.note(NOT_NEEDED, f"{short(name)}.initializer", "the text fills the whole prompt")
        return
    text = f"{owner} fills what is left with sampled vocabulary"
    draft.note(DIFFERS, f"{short(name)}.initializer = {shown}", text)


def _text_of(draft: Draft, name: str, scope: str) -> str:
    value = required(draft.bindings, name, "text", scope)
    return kinds.text("prompts.from_embedded_string.text", value)


def _wayward(draft: Draft, model: str) -> str:
    """Takes over the penalty of wayward prompts; returns their text, "" for other prompts."""
    if model != WAYWARD:
        return ""
    bindings = draft.bindings
    distance = bindings.get(WAYWARD, "distance", "", None)
    if isinstance(distance, Reference) and not distance.name.endswith(".squared_l2_distance"):
        raise refuse(f"the distance {distance}", "Waywardness has squared_l2_distance.")
    bindings.get(WAYWARD, "prompt_path", "", None)
    discrete = name_of(required(bindings, WAYWARD, "discrete_prompt"), "discrete_prompt")
    for parameter in ("rng", "shape"):
        bindings.get(discrete, parameter, "prompt_init", None)
    start = required(bindings, discrete, "init", "prompt_init")
    text = _text_of(draft, name_of(start, "wayward.execute_initializer.init"), "prompt_init")
    encoder = f"{_WAYWARD_MODULE}.encode_string"
    bindings.get(encoder, "vocab", "", None)
    if (counted := bindings.get(encoder, "s", "", text)) != text:
        raise refuse(f"wayward.encode_string.s = {counted!r}", f"the prompt's text is {text!r}.")
    if bindings.get(encoder, "format_values", "", None) is not None:
        raise refuse("VERBALIZERS", "write the words into TASK_STRING.")
    draft.set("Run.waywardness", Call("@Waywardness()"), "MODEL")
    draft.set("Waywardness.text", text, "TASK_STRING")
    gamma = kinds.number("gamma", bindings.get(WAYWARD, "gamma", "", 0.01))
    parts = microbatches(bindings)
    comment = f"{gamma} in each of {parts} microbatches" if parts > 1 else ""
    draft.set("Waywardness.gamma", gamma * parts, f"{short(WAYWARD)}.gamma", comment)
    return text


def microbatches(bindings: Bindings) -> int:
    """Returns the number of microbatches, 1 where T5X has none."""
    name = "trainer.Trainer.num_microbatches"
    parts = bindings.get("t5x.trainer.Trainer", "num_microbatches", "", None)
    return kinds.whole(name, parts or 0) or 1


def set_optimizer(draft: Draft, method: str, start: int) -> None:
    """Takes over Adafactor and its learning rate.

    Args:
      draft: the translation.
      method: of `trained_part`.
      start: step of the pre-trained model, from which T5X goes on counting.
    """
    bindings = draft.bindings

    short_name = short(ADAFACTOR)

    def get(name: str, default: Any, kind: Callable[[str, Any], Any]) -> Any:
        return kind(f"{short_name}.{name}", bindings.get(ADAFACTOR, name, "", default))

    def get_or_none(name: str, default: Any, kind: Callable[[str, Any], Any]) -> Any:
        return get(name, default, lambda x, value: None if value is None else kind(x, value))

    draft.set("Run.optimizer", Call("@Adafactor()"), "OPTIMIZER")
    offset = get("step_offset", 0, kinds.whole)
    if method == "full_fine_tuning":
        draft.set("RESTORE_OPTIMIZER", True, "RestoreCheckpointConfig", "T5X restores its slots")
        draft.set("Adafactor.decay_offset", 0, "adafactor.Adafactor.step_offset", "restored too")
        if offset:
            text = "the second moment decays from the step of the checkpoint"
            draft.note(DIFFERS, f"adafactor.Adafactor.step_offset = {offset}", text)
    elif offset > start:
        raise ValueError(
            f"adafactor.Adafactor.step_offset is {offset}, beyond the step {start} of the "
            "checkpoint, where T5X's decay is not defined."
        )
    else:
        text = f"step_offset minus the checkpoint's step, {start:,}"
        draft.set("Adafactor.decay_offset", offset - start, "adafactor.Adafactor.step_offset", text)
    clipping = get_or_none("clipping_threshold", 1.0, kinds.number)
    least = get("min_dim_size_to_factor", 128, kinds.whole)
    for name, value in {
        "decay_rate": get("decay_rate", 0.8, kinds.number),
        "multiply_by_parameter_scale": get("multiply_by_parameter_scale", True, kinds.flag),
        "weight_decay_rate": get_or_none("weight_decay_rate", None, kinds.number) or 0.0,
        "clipping_threshold": _NO_CLIPPING if clipping is None else clipping,
        "min_dim_size_to_factor": least if get("factored", True, kinds.flag) else _NEVER,
    }.items():
        draft.set(f"Adafactor.{name}", value, f"{short_name}.{name}")
    _set_rate(draft, start)


def _set_rate(draft: Draft, start: int) -> None:
    """Takes over the schedule. T5X's counts the steps of pre-training, spjax's does not."""
    bindings = draft.bindings

    short_name = short(_RATE)

    def get(name: str, default: Any, kind: Callable[[str, Any], Any]) -> Any:
        return kind(f"{short_name}.{name}", bindings.get(_RATE, name, "", default))

    factors = get("factors", "constant * linear_warmup * rsqrt_decay", kinds.text)
    factors = [part.strip() for part in factors.split("*")]
    offset = get("step_offset", 0, kinds.whole)
    rate, before = get("base_learning_rate", 0.5, kinds.number), max(start - offset, 0)
    if offset > start:
        raise refuse("a schedule that begins after the first update", "bind step_offset lower.")
    warmup, factor, period = get("warmup_steps", 1000, kinds.whole), 1.0, 0
    if "decay_every" in factors:
        factor = get("decay_factor", 0.5, kinds.number)
        period = get("steps_per_decay", 20000, lambda name, value: kinds.whole(name, value, 1))
        rate *= factor ** (before // period)
        if before % period and factor != 1:
            text = f"the stairs begin {before % period:,} steps earlier than with spjax"
            draft.note(DIFFERS, f"{short_name}.steps_per_decay = {period}", text)
    draft.set("LEARNING_RATE", rate, f"{short_name}.base_learning_rate")
    if "linear_warmup" in factors and before < warmup:
        if before:
            text = f"the warm-up is {before:,} steps on when the run begins"
            draft.note(DIFFERS, f"{short_name}.warmup_steps = {warmup}", text)
        draft.set("Adafactor.warmup_steps", warmup, f"{short_name}.warmup_steps")
    else:
        over = "linear_warmup" in factors
        text = f"over at the checkpoint's step, {start:,}" if over else "not among the factors"
        draft.note(NOT_NEEDED, f"{short_name}.warmup_steps", text)
    if factor > 1 or factor <= 0:
        raise refuse(f"{short_name}.decay_factor = {factor}", "its stairs go down, by a factor.")
    if period and factor < 1:
        draft.set("Adafactor.decay_factor", factor, f"{short_name}.decay_factor")
        draft.set("Adafactor.steps_per_decay", period, f"{short_name}.steps_per_decay")
    elif period:
        draft.note(
            NOT_NEEDED, f"{short_name}.decay_factor", "a factor of 1: the rate stays as it is"
        )
    if len(set(factors)) < len(factors):
        raise refuse(
            f"the factors {' * '.join(factors)}", "it has each of them, not more than once."
        )
    unknown = [x for x in factors if x not in ("constant", "linear_warmup", "decay_every")]
    for name in unknown:
        raise refuse(
            f"the factor {name} of the learning rate",
            "its schedules are constant, linear_warmup and decay_every.",
        )
    if "constant" not in factors:
        raise refuse("a learning rate without the factor constant", "T5X's would be 1.")
