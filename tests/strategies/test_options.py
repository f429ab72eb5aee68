"""Which values fit which annotations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from jaxmed.runtime.annotations import describe_annotation, fits
from jaxmed.strategies.options import read_options

YES = [
    (bool, True),
    (int, 3),
    (int, np.int64(3)),
    (float, 3),
    (float, np.float32(0.1)),
    (str, "a"),
    (float | None, None),
    (float | None, 1),
    (str | Mapping[str, Any], {"name": "cosine"}),
    (Literal["a", 2], 2),
    (tuple[float, ...], [1, 0.1]),
    (list[int], (1, 2)),
    (list, ["a", 1]),
    (tuple[int, str], [1, "a"]),
    (Sequence[Mapping[str, Any]], [{"strategy": "full"}, {}]),
    (dict[str, float], {}),
    (Any, object()),
    (Path, "a class of their own"),
]
NO = [
    (bool, 1, "true or false"),
    (int, True, "a whole number"),
    (int, 3.0, "a whole number"),
    (float, False, "a number"),
    (float, "1e-3", "a number"),
    (float, None, "a number"),
    (str, 1, "a text"),
    (int | None, 0.5, "a whole number or none"),
    (Literal["a", 2], "b", "one of 'a', 2"),
    (tuple[float, ...], 0.1, "a list, each a number"),
    (tuple[float, ...], [0.1, "b"], "a list, each a number"),
    (tuple[int, str], [1], "a list of 2: a whole number, a text"),
    (Sequence[str], "text", "a list, each a text"),
    (Sequence[Mapping[str, Any]], {"strategy": "full"}, "a list, each a table"),
    (str | dict, 3, "a text or a table"),
]


@pytest.mark.parametrize(("kind", "value"), YES)
def test_values_that_fit(kind, value):
    assert fits(kind, value)


@pytest.mark.parametrize(("kind", "value", "expected"), NO)
def test_values_that_do_not_fit(kind, value, expected):
    assert not fits(kind, value)
    assert describe_annotation(kind) == expected


def test_the_model_is_no_option_and_what_cannot_be_evaluated_takes_everything():
    def function(model, *, free, text: "str" = "", odd: "NotAnywhere" = 1):  # noqa: F821
        del model, free, text, odd

    kinds = {k: p.annotation for k, p in read_options(function).parameters.items()}
    assert kinds == {"free": Any, "text": str, "odd": Any}
