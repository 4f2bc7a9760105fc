import re

from timm_lp.experiments.classification.report import to_markdown
from timm_lp.markup import Page, to_html, to_latex

from .trials.records import RECORDS

COMMANDS = {
    *("begin", "end", "paragraph", "centering", "caption", "includegraphics", "linewidth", "item"),
    *("toprule", "midrule", "bottomrule", "textbf", "texttt", "pm", "textdegree", "textbackslash"),
    *("textasciitilde", "textasciicircum", "textperiodcentered"),
}
PAGE = """# Digits & co

Two seeds, 100 % of them; `lp2-paper` is **new**

| variant | top-1 (%) | minus base |
| ------- | --------: | ---------: |
| base    |     45.99 |          - |
| lp_2    | **49.78** |      -3.79 |

- a list
- with `two` lines

The end: p < 0.001 (-2 \\*)."""

LATEX = r"""% Needs \usepackage{booktabs}, of pictures \usepackage{graphicx}.

\paragraph{Digits \& co}

\begin{table}
  \centering
  \caption{Two seeds, 100 \% of them; \texttt{lp2-paper} is \textbf{new}}
  \begin{tabular}{lrr}
    \toprule
    variant & top-1 (\%) & minus base \\
    \midrule
    base & 45.99 & -- \\
    lp\_2 & \textbf{49.78} & $-$3.79 \\
    \bottomrule
  \end{tabular}
\end{table}

\begin{itemize}
  \item a list
  \item with \texttt{two} lines
\end{itemize}

The end: p $<$ 0.001 ($-$2 *).
"""

HTML = (
    "<h4>Digits &amp; co</h4>\n<p>Two seeds, 100 % of them; <code>lp2-paper</code> is <b>new</b></p>\n"
    '<table><tr><th style="text-align: left">variant</th><th style="text-align: right">top-1 (%)</th>'
    '<th style="text-align: right">minus base</th></tr>'
    '<tr><td style="text-align: left">base</td><td style="text-align: right">45.99</td>'
    '<td style="text-align: right">-</td></tr>'
    '<tr><td style="text-align: left">lp_2</td><td style="text-align: right"><b>49.78</b></td>'
    '<td style="text-align: right">-3.79</td></tr></table>\n'
    "<ul><li>a list</li><li>with <code>two</code> lines</li></ul>\n<p>The end: p &lt; 0.001 (-2 *).</p>"
)


def test_latex_has_the_same_tables() -> None:
    assert to_latex(PAGE) == LATEX


def test_latex_shows_pictures() -> None:
    figure = to_latex("![Kernels of a_b](kernels-1.png)").splitlines()
    assert figure[4:6] == [r"  \includegraphics[width=\linewidth]{kernels-1.png}", r"  \caption{Kernels of a\_b}"]


def test_latex_escapes_every_special_character() -> None:
    assert to_latex(r"\ ~ ^ # $ _ { } & % ± ° [label](link)").splitlines()[-1] == (
        r"\textbackslash{} \textasciitilde{} \textasciicircum{} \# \$ \_ \{ \} \& \% $\pm$ \textdegree{} label"
    )


def test_html_has_the_same_tables_and_nothing_of_a_page_is_markup() -> None:
    assert to_html(PAGE) == Page(PAGE)._repr_html_() == HTML
    assert to_html("| `<b>` |\n| --- |\n| <script> \\| **<i>** [<a>](x) |") == (
        '<table><tr><th style="text-align: left"><code>&lt;b&gt;</code></th></tr>'
        '<tr><td style="text-align: left">&lt;script&gt; | <b>&lt;i&gt;</b> &lt;a&gt;</td></tr></table>'
    )
    assert to_html("![<img>](x.png)") == "<p><em>&lt;img&gt;</em></p>"


def test_latex_of_whole_reports_is_sound() -> None:
    """As far as a reader of its braces, its environments and its tables can tell."""
    for page in (PAGE, to_markdown(RECORDS), "![A_b](c-1.png)\n\n| a \\| b | `_%` |\n| --- | --: |\n| {x} | -1 & ^ |"):
        latex = re.sub(r"(?m)^%.*\n", "", to_latex(page))
        opened: list[str] = []
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", latex):
            assert kind == "begin" or opened.pop() == name
            opened += [name] * (kind == "begin")
        assert not opened
        assert {*re.findall(r"\\([a-zA-Z]+)", latex)} <= COMMANDS
        for columns, rows in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", latex, re.DOTALL):
            for row in filter(None, map(str.strip, rows.splitlines())):
                if row not in (r"\toprule", r"\midrule", r"\bottomrule"):
                    assert row.endswith(r" \\"), row
                    assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1, row
        text = re.sub(r"\$[^$]*\$|\\[&%$#_{}]|\\[a-zA-Z]+", "", latex)  # without math, escapes and commands
        assert not set(text) & set("$#_^~%\\") - {"\\"}
        depth = 0
        for brace in re.findall(r"[{}]", text):
            depth += 1 if brace == "{" else -1
            assert depth >= 0
        assert depth == 0
