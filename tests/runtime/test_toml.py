import tomllib

import pytest

from jaxmed.errors import InputError
from jaxmed.runtime.toml import format_toml, read_toml

TABLE = {
    "name": 'a "b" \\ c\n\td \x7f é 漢',
    "rate": 1e-05,
    "third": 1 / 3,
    "many": [1, 2, 3],
    "none": [],
    "yes": True,
    "train": {"options": {"a-b": 1, "with space": "x", "1": 2}, "seeds": [0]},
    "phases": [{"schedule": {"name": "step", "every": 2}, "rates": [0.1]}, {"a": []}],
    "mixed": [1, {"a b": "x", "inner": [{"deep": True}, 2]}],
    "empty": {},
    "arms": {"x": {}},
    "expect": [{"arm": "x", "value": [0.1, 0.2]}, {"arm": "x", "value": 3.0}],
}


def test_what_is_written_reads_back_the_same():
    assert tomllib.loads(format_toml(TABLE)) == TABLE


def test_tuples_are_lists():
    assert tomllib.loads(format_toml({"seeds": (1, 2)})) == {"seeds": [1, 2]}


def test_a_file_that_is_not_toml_is_a_sentence_with_the_place(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[data\nsource = 1")
    with pytest.raises(InputError, match=r"bad\.toml is not valid TOML: .*line 1"):
        read_toml(path)


def test_a_file_that_is_not_text_is_a_sentence(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        read_toml(path)
