"""Names that people give to train, val and test, of folders and in tables."""

import re

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev", "development", "tuning"),
    "test": ("test", "testing"),
}
ROLES = {name: split for split, names in NAMES.items() for name in names}


def find_role(name: str) -> str | None:
    """Returns which split a name means: "train", "val", "test", or None.

    Case does not matter, nor what separates words, nor a word such as "set" behind:
    "Training", "TEST SET" and "val_images" are names of splits.

    Example:
        >>> [find_role(name) for name in ("Training", "valid-set", "tested")]
        ['train', 'val', None]
    """
    if re.search(r"\d", name):
        return None
    letters = re.sub(r"[^a-z]", "", name.casefold())
    stem = re.sub(r"(set|sets|data|dataset|images|imgs|split|folder)$", "", letters)
    return ROLES.get(letters, ROLES.get(stem))
