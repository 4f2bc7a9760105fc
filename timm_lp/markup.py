"""Pages of results in Markdown as others show them: LaTeX for papers, HTML for notebooks."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from html import escape

NOTHING = "-"  # what stands for a number that is not there

_TABLE = re.compile(r"^\|.*\|$")
_PICTURE = re.compile(r"^!\[(?P<title>.*)\]\((?P<file>.*)\)$")
_LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "°": r"\textdegree{}", "·": r"\textperiodcentered{}", "<": "$<$", ">": "$>$"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_MARKS = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>.+?)`|\[(?P<label>.+?)\]\((?P<link>.+?)\)|\\(?P<escaped>[*|])")
_NEGATIVE = re.compile(r"(?<![^\s(])-(?=\d)")


class Page(str):
    """A page in Markdown, which notebooks show."""

    def _repr_html_(self) -> str:
        return to_html(self)


def to_latex(markdown: str) -> str:
    """Return a Markdown page as LaTeX: each table with booktabs' rules, under the paragraph above it as its caption.

    Args:
        markdown: Headings, paragraphs, lists, pictures and tables, with an empty line between them.
    """
    parts, caption = [r"% Needs \usepackage{booktabs}, of pictures \usepackage{graphicx}."], ""
    for lines in _blocks(markdown):
        if all(map(_TABLE.match, lines)):
            parts.append(_latex_table(lines, caption))
            caption = ""
            continue
        if caption:
            parts.append(caption)
        caption = ""
        if picture := _PICTURE.match(lines[0]):
            parts.append(_latex_picture(picture["file"], _latex_text(picture["title"])))
        elif lines[0].startswith("#"):
            parts.append(rf"\paragraph{{{_latex_text(lines[0].lstrip('# '))}}}")
        elif lines[0].startswith("- "):
            items = [f"  \\item {_latex_text(line.removeprefix('- '))}" for line in lines]
            parts.append("\n".join([r"\begin{itemize}", *items, r"\end{itemize}"]))
        else:
            caption = _latex_text(" ".join(lines))
    return "\n\n".join([*parts, *([caption] if caption else [])]) + "\n"


def _latex_table(lines: Sequence[str], caption: str) -> str:
    header, rule, *body = _cells(lines)
    alignment = "".join("r" if cell.endswith(":") else "l" for cell in rule)
    rows = [rf"    {' & '.join(map(_latex_text, cells))} \\" for cells in [header, *body]]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            *([rf"  \caption{{{caption}}}"] if caption else []),
            rf"  \begin{{tabular}}{{{alignment}}}",
            r"    \toprule",
            rows[0],
            r"    \midrule",
            *rows[1:],
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _latex_picture(file: str, caption: str) -> str:
    return "\n".join(
        [
            r"\begin{figure}",
            r"  \centering",
            rf"  \includegraphics[width=\linewidth]{{{file}}}",
            rf"  \caption{{{caption}}}",
            r"\end{figure}",
        ]
    )


def _latex_characters(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return "--" if escaped == NOTHING else _NEGATIVE.sub("$-$", escaped)


def to_html(markdown: str) -> str:
    """Return a Markdown page as HTML; of a picture, its title.

    Args:
        markdown: As for `to_latex`.
    """
    parts = []
    for lines in _blocks(markdown):
        if all(map(_TABLE.match, lines)):
            parts.append(_html_table(lines))
        elif picture := _PICTURE.match(lines[0]):
            parts.append(f"<p><em>{_html_text(picture['title'])}</em></p>")
        elif lines[0].startswith("#"):
            parts.append(f"<h4>{_html_text(lines[0].lstrip('# '))}</h4>")
        elif lines[0].startswith("- "):
            items = (f"<li>{_html_text(line.removeprefix('- '))}</li>" for line in lines)
            parts.append(f"<ul>{''.join(items)}</ul>")
        else:
            parts.append(f"<p>{_html_text(' '.join(lines))}</p>")
    return "\n".join(parts)


def _html_table(lines: Sequence[str]) -> str:
    header, rule, *body = _cells(lines)
    sides = ["right" if cell.endswith(":") else "left" for cell in rule]
    rows = []
    for tag, cells in (("th", header), *(("td", row) for row in body)):
        row = (
            f'<{tag} style="text-align: {side}">{_html_text(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        rows.append(f"<tr>{''.join(row)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _styled(text: str, characters: Callable[[str], str], bold: str, code: str) -> str:
    """Return a line of Markdown in another language; of a link, its label.

    Args:
        text: The line.
        characters: Returns plain text in that language.
        bold: What is bold there, with `{}` for the text.
        code: The same of code.
    """
    parts, end = [], 0
    for mark in _MARKS.finditer(text):
        parts.append(characters(text[end : mark.start()]))
        if mark["bold"]:
            parts.append(bold.format(_styled(mark["bold"], characters, bold, code)))
        elif mark["code"]:
            parts.append(code.format(characters(mark["code"])))
        else:
            parts.append(characters(mark["label"] or mark["escaped"]))
        end = mark.end()
    return "".join([*parts, characters(text[end:])])


_latex_text = partial(_styled, characters=_latex_characters, bold=r"\textbf{{{}}}", code=r"\texttt{{{}}}")
_html_text = partial(_styled, characters=escape, bold="<b>{}</b>", code="<code>{}</code>")


def _blocks(markdown: str) -> list[list[str]]:
    """Return the lines of each heading, paragraph, list, picture and table."""
    return [block.splitlines() for block in re.split(r"\n\s*\n", markdown.strip())]


def _cells(lines: Sequence[str]) -> list[list[str]]:
    """Return the cells of a table: its header, its rule and its rows."""
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
