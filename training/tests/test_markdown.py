"""Tables in Markdown."""

from __future__ import annotations

from mrsynth_training.markdown import table


def test_a_table_has_heads_a_rule_and_a_line_per_row():
    assert table(["", "one", "two"], [["row", "1", "2"], ["last", "", "3"]]) == [
        "| | one | two |",
        "|---|---|---|",
        "| row | 1 | 2 |",
        "| last | | 3 |",
    ]
