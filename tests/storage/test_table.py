"""Tables as spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgmclip.storage.errors import TableError, TextError
from fgmclip.storage.table import Row, read_table

PLAIN = [
    Row(2, {"path": "a.mp4", "label": "jump"}),
    Row(3, {"path": "b.mp4", "label": "kick"}),
]


def read(folder: Path, text: str, encoding: str = "utf-8") -> list[Row]:
    path = folder / "t.csv"
    path.write_bytes(text.encode(encoding))
    return read_table(path, ("path", "label"))


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.mp4,jump\nb.mp4,kick\n",
        "\ufeffpath,label\r\na.mp4,jump\r\nb.mp4,kick\r\n",
        "path;label\r\na.mp4;jump\r\nb.mp4;kick",
        "path\tlabel\na.mp4\tjump\nb.mp4\tkick\n",
        "path|label\na.mp4|jump\nb.mp4|kick\n",
        '"path";"label"\n"a.mp4";"jump"\n"b.mp4";"kick"\n',
        " Path , LABEL\na.mp4, jump\nb.mp4,kick \n",
        "path,label,,\na.mp4,jump,,\nb.mp4,kick,,\n,,,\n\n,,,\n",
    ],
    ids=ascii,
)
def test_what_spreadsheets_write_is_the_same_table(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == PLAIN


def test_excels_own_first_line_says_the_separator(tmp_path: Path) -> None:
    rows = read(tmp_path, "\ufeffsep=;\r\npath;label\r\na,1.mp4;jump\r\n")
    assert rows == [Row(3, {"path": "a,1.mp4", "label": "jump"})]


def test_quotes_hold_separators_quotes_and_line_ends(tmp_path: Path) -> None:
    rows = read(tmp_path, 'path,label\r\n"a, b.mp4","say ""hi"""\r\n"two\r\nlines",x\r\nc,y\r\n')
    assert rows == [
        Row(2, {"path": "a, b.mp4", "label": 'say "hi"'}),
        Row(3, {"path": "two\nlines", "label": "x"}),
        Row(5, {"path": "c", "label": "y"}),
    ]


def test_a_row_that_ends_early_has_empty_cells(tmp_path: Path) -> None:
    assert read(tmp_path, "path,label\na.mp4\n") == [Row(2, {"path": "a.mp4", "label": ""})]


def test_line_separators_of_unicode_stay_in_their_cell(tmp_path: Path) -> None:
    rows = read(tmp_path, "path,label\na.mp4,a\u2028b\x0bc\n")
    assert rows == [Row(2, {"path": "a.mp4", "label": "a\u2028b\x0bc"})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got an empty file"),
        ("file;label\na;b\n", r"column path missing among file, label \(separated by a semicolon"),
        ("path,label,Path\na,b,c\n", "column path stands twice; leave one"),
        ("path,label\na,b\nc,d,e\n", "line 3 has 'e' in a column without a name; put text that ho"),
        ('path,label\na,b\n"c,d\ne,f\n', r"line 3 is not CSV .*; close its quotes"),
    ],
)
def test_what_is_no_such_table_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        read(tmp_path, text)


def test_excels_unicode_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="expected UTF-8 text, got UTF-16; save it as UTF-8"):
        read(tmp_path, "path\tlabel\r\n", "utf-16")
