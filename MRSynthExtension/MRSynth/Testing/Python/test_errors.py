"""Every error is documented, readable, and comes back whole from another process."""

import pickle
from pathlib import Path

import pytest

from MRSynthLib.engine.errors import ERRORS, FAMILIES, Cancelled, InputError, markdown_table
from MRSynthLib.engine.process import error_document, error_from

ROOT = Path(__file__).resolve().parents[4]


def test_the_documented_table_is_the_code() -> None:
    assert markdown_table() in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def test_nobody_is_told_to_overwrite_by_what_also_passes_the_screening_by() -> None:
    assert "--overwrite" in ERRORS["output-exists"].remedy
    assert not [code for code, kind in ERRORS.items() if kind.family == "output" and "--force" in kind.remedy]


def test_a_message_says_what_was_seen_expected_and_what_to_do() -> None:
    error = InputError("input-not-3d", "It has 2 dimensions.", "three dimensions.")
    assert str(error) == (
        "It has 2 dimensions. Expected: three dimensions. What to do: " + ERRORS["input-not-3d"].remedy
    )


def test_an_undocumented_code_cannot_exist() -> None:
    with pytest.raises(KeyError):
        InputError("no-such-code", "a", "b")


def test_exit_codes_tell_the_families_apart() -> None:
    codes = [family.exit_code for family in FAMILIES.values()]
    assert sorted(codes) == [3, 4, 5, 6, 7, 8]
    assert {kind.family for kind in ERRORS.values()} == set(FAMILIES)


def test_a_cancelled_run_that_has_written_something_says_so_in_another_process() -> None:
    copy = pickle.loads(pickle.dumps(Cancelled(remedy="What is done is kept.")))
    assert str(copy).endswith("What to do: What is done is kept.")


@pytest.mark.parametrize("error", [InputError("input-empty", "a", "b", "c"), Cancelled("The scene was closed.", "a")])
def test_errors_survive_the_way_between_processes(error: InputError) -> None:
    for copy in (pickle.loads(pickle.dumps(error)), error_from(error_document(error))):
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert copy.code == error.code
