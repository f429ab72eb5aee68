"""Options of a source, behind its question mark: `SCHEME:PATH?word=name&word=a,b`.

"%26" stands for "&" in a name, and "%2C" for a comma, as in addresses.
"""

from collections.abc import Mapping, Sequence
from unicodedata import normalize
from urllib.parse import unquote

from jaxmed.errors import InputError, unknown

Options = Mapping[str, tuple[str, ...]]
"""By word the names that were given."""


def parse_query(
    query: str, where: str, words: Sequence[str], lists: Sequence[str]
) -> Options:
    """Reads the options of a source.

    Args:
        query: what follows the question mark.
        where: the source, for sentences.
        words: that there are.
        lists: those of them of which a comma separates several names.

    Raises:
        InputError: a word that is unknown, without a name or given twice, or a name
            that is given twice.
    """
    options: dict[str, tuple[str, ...]] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in words:
            raise unknown(f"word in '{where}'", key, words)
        if not value or key in options:
            raise InputError(f"'{where}' must say {key} once, as in '?{key}=NAME'.")
        texts = value.split(",") if key in lists else [value]
        names = tuple(normalize("NFC", unquote(text)) for text in texts)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"'{where}' names {twice[0]!r} twice in {key}.")
        options[key] = names
    return options
