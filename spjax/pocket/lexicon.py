"""The closed list of words of the pocket world. Few types, so that each can be one piece."""

from __future__ import annotations

WOMEN = (
    "Anna",
    "Beth",
    "Clara",
    "Dora",
    "Emma",
    "Fiona",
    "Grace",
    "Helen",
    "Ida",
    "Julia",
    "Kate",
    "Lucy",
)
MEN = (
    "Adam",
    "Ben",
    "Carl",
    "David",
    "Eric",
    "Frank",
    "George",
    "Henry",
    "Ivan",
    "Jack",
    "Kevin",
    "Leo",
)
PEOPLE = WOMEN + MEN

OBJECTS = tuple(
    f"the {noun}"
    for noun in (
        "cup",
        "hat",
        "book",
        "key",
        "lamp",
        "ball",
        "coat",
        "knife",
        "spoon",
        "map",
        "pen",
        "chair",
        "clock",
        "rope",
        "bottle",
        "mirror",
        "drum",
        "kite",
        "candle",
        "pillow",
        "ladder",
        "bucket",
        "brush",
        "flag",
    )
)
PLACES = tuple(
    f"the {noun}"
    for noun in (
        "kitchen",
        "garden",
        "attic",
        "cellar",
        "barn",
        "library",
        "school",
        "market",
        "office",
        "station",
        "museum",
        "bakery",
        "hall",
        "tower",
    )
)
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "pink")
JOBS = (
    "baker",
    "doctor",
    "farmer",
    "teacher",
    "painter",
    "sailor",
    "singer",
    "driver",
    "writer",
    "nurse",
)
OCCASIONS = tuple(
    f"the {noun}" for noun in ("party", "lesson", "trip", "concert", "meeting", "wedding", "race")
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PRICES = tuple(
    f"{number} coins"
    for number in ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
)

# Kinds of things; the article belongs to the kind.
KINDS = {
    "an animal": ("dog", "cat", "horse", "cow", "goat", "hen"),
    "a fruit": ("pear", "plum", "banana", "lemon", "cherry"),
    "a vehicle": ("car", "bus", "train", "boat", "truck"),
    "a tool": ("hammer", "saw", "shovel", "drill"),
    "a toy": ("doll", "puzzle", "puppet", "robot"),
}
KIND_OF = {noun: kind for kind, nouns in KINDS.items() for noun in nouns}
# (more, less): "a is older than b" says the same as "b is younger than a".
COMPARISONS = (
    ("older", "younger"),
    ("taller", "shorter"),
    ("faster", "slower"),
    ("stronger", "weaker"),
    ("richer", "poorer"),
)

# Reviews
REVIEWED = (
    "film",
    "book",
    "soup",
    "hotel",
    "song",
    "game",
    "cake",
    "play",
    "show",
    "meal",
    "room",
    "trip",
)
ASPECTS = ("ending", "music", "story", "price", "service", "view", "start", "style")
PRAISE = (
    "good",
    "great",
    "lovely",
    "fine",
    "charming",
    "clever",
    "pleasant",
    "superb",
    "perfect",
    "wonderful",
)
BLAME = (
    "bad",
    "awful",
    "boring",
    "dull",
    "terrible",
    "sad",
    "ugly",
    "horrible",
    "stupid",
    "painful",
)
# (past, infinitive)
LIKING = (("loved", "love"), ("enjoyed", "enjoy"), ("liked", "like"), ("admired", "admire"))
DISLIKING = (("hated", "hate"), ("disliked", "dislike"), ("regretted", "regret"))
