"""Roles of arms by their names, for studies that compare frozen models or kinds of training data.

An arm plays the role that its name contains. Arms without a role are the default ones, whatever
they are called. `adaptation_10000` is an arm over models adapted for 10,000 steps.
"""

import re

SPAN_CORRUPTION, SENTINEL, MULTITASK = "span_corruption", "sentinel", "multitask"
ADAPTATION = "adaptation"
_STEPS = re.compile(rf"{ADAPTATION}_(\d+)")


def role_of(arm: str) -> str:
    """Returns the role of an arm, "" for a default one."""
    if steps := _STEPS.search(arm):
        return f"{ADAPTATION} {steps[1]}"
    return next((role for role in (SENTINEL, SPAN_CORRUPTION, MULTITASK) if role in arm), "")
