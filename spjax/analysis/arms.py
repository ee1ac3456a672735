"""Roles of arms by their names, for studies that compare frozen models or kinds of training data.

An arm plays the role that its name contains as whole words between underscores, but for one after
"no", "non", "not" or "without". Arms without a role are the default ones, whatever they are called.
`adaptation_10000` is an arm over models adapted for 10,000 steps.
"""

import re

import pandas as pd

SPAN_CORRUPTION, SENTINEL, MULTITASK = "span_corruption", "sentinel", "multitask"
ADAPTATION, GPT3 = "adaptation", "gpt3"
_NEGATIONS = ("no", "non", "not", "without")


def role_of(arm: str) -> str:
    """Returns the role of an arm, "" for a default one."""
    words = re.split(r"[\W_]+", arm)
    for role in (ADAPTATION, SENTINEL, SPAN_CORRUPTION, MULTITASK, GPT3):
        parts = role.split("_")
        for start in range(len(words) - len(parts) + 1):
            end = start + len(parts)
            if words[start:end] != parts or words[max(start - 1, 0)] in _NEGATIONS:
                continue
            if role != ADAPTATION:
                return role
            if end < len(words) and words[end].isdecimal():
                return f"{ADAPTATION} {words[end]}"
    return ""


def roles(runs: pd.DataFrame) -> dict[str, str]:
    """Returns the role of each variant that claims are about.

    Of several variants of one method and role they are about one alone: the arm "prompts", or else
    the first by name. The others differ by what no claim is about, and have no entry.

    runs: of `statistics.main_runs`.
    """
    role_of_variant = {}
    for _, part in runs.groupby("method"):
        alike: dict[str, list[str]] = {}
        for variant, names in part.groupby("variant")["arm"]:
            role = next(filter(None, map(role_of, sorted(set(names)))), "")
            alike.setdefault(role, []).append(str(variant))
        for role, variants in alike.items():
            first = min(variants, key=lambda name: ("prompts" not in name.split(), name))
            role_of_variant[first] = role
    return role_of_variant
