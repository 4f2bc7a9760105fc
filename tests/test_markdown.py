from timm_lp.markdown import markdown_rows


def test_markdown_rows() -> None:
    assert markdown_rows(["name", "x"], [["a", "1.0"], ["longer", "10.25"]]).splitlines() == [
        "| name   |     x |",
        "| ------ | ----: |",
        "| a      |   1.0 |",
        "| longer | 10.25 |",
    ]


def test_columns_of_text_and_narrow_columns() -> None:
    assert markdown_rows(["name", "what", "p"], [["a", "long text", "2"]], left=2).splitlines() == [
        "| name | what      |  p |",
        "| ---- | --------- | -: |",
        "| a    | long text |  2 |",
    ]
