"""One HTML page of charts, tables and a little script, with everything it needs inside.

The script of plotly is inlined, so the page opens from disk and from MLflow's artifact view without a network.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from pipeline.errors import OutputError, must
from pipeline.places import write_atomically

_HERE = Path(__file__).parent


@dataclass
class Page:
    """What a page is made of.

    Attributes:
        title, about, footer: texts.
        tiles: the few numbers on top.
        tabs: (key, name, HTML, whether the panel of the selected node belongs to it).
        charts: plotly figures by the id of their place.
        data: what the script needs besides.
        aside: HTML of the panel of the selected node.
    """

    title: str
    about: str
    footer: str = ""
    tiles: list[tuple[str, str]] = field(default_factory=list)
    tabs: list[tuple[str, str, str, bool]] = field(default_factory=list)
    charts: dict[str, go.Figure] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    aside: str = ""

    def html(self) -> str:
        """The page."""
        from plotly.offline import get_plotlyjs

        charts = {name: json.loads(figure.to_json()) for name, figure in self.charts.items()}
        tabs = [
            f'<button type="button" role="tab" id="tab-{key}" aria-controls="panel-{key}"{" data-nodes" * nodes}>'
            f"{escaped(name)}</button>"
            for key, name, _, nodes in self.tabs
        ]
        panels = [
            f'<section role="tabpanel" id="panel-{key}" aria-labelledby="tab-{key}" tabindex="-1">{content}</section>'
            for key, _, content, _ in self.tabs
        ]
        parts = {
            "title": escaped(self.title),
            "about": escaped(self.about),
            "footer": escaped(self.footer),
            "tiles": "".join(f"<div><dt>{escaped(n)}</dt><dd>{escaped(v)}</dd></div>" for n, v in self.tiles),
            "tabs": "".join(tabs),
            "panels": "".join(panels),
            "aside": self.aside,
            "style": (_HERE / "page.css").read_text(encoding="utf-8"),
            "script": (_HERE / "page.js").read_text(encoding="utf-8"),
            "plotly": get_plotlyjs(),
            "data": embedded({**self.data, "charts": charts}),
        }
        template = (_HERE / "page.html").read_text(encoding="utf-8")
        return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def embedded(content: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element whatever texts it holds; what is not a number is null."""
    text = json.dumps(_finite(content), separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def write_page(page: Page, out: Path) -> int:
    """Writes a page, whole or not at all; its size in bytes.

    Raises:
        OutputError: it cannot be written there.
    """
    if out.is_dir():
        raise must("--out", "a file", str(out))
    content = page.html().encode("utf-8")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, content)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"--out must be a file that can be written. Got '{out}': {reason}.") from None
    return len(content)


def escaped(text: object) -> str:
    """A text as HTML."""
    return html.escape(str(text))


def chart(name: str, alt: str, caption: str = "", kind: str = "", wheel: bool = False, at: str = "") -> str:
    """The place of a chart.

    Args:
        name: its id, as in `Page.charts`.
        alt: what it shows, for those who cannot see it.
        caption: HTML below it.
        kind: short, half or tall.
        wheel: whether the wheel zooms.
        at: where nodes stand in it, a key of the script's `at`; the selected one gets a ring.
    """
    more = (" data-wheel" if wheel else "") + (f' data-at="{at}"' if at else "")
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure><div class="chart {kind}" id="{name}" role="figure" tabindex="0" aria-label="{escaped(alt)}"{more}>'
        f"</div>{below}</figure>"
    )


def select(name: str, label: str, options: Sequence[tuple[object, str]], more: str = "") -> str:
    """A labelled list to choose from: (value, text)."""
    listed = "".join(f'<option value="{escaped(value)}">{escaped(text)}</option>' for value, text in options)
    return f'<label for="{name}">{escaped(label)}</label> <select id="{name}" {more}>{listed}</select>'


def table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table; the first cell of a row names it."""
    top = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escaped(row[0])}</th>' + "".join(f"<td>{escaped(v)}</td>" for v in row[1:]) + "</tr>"
        for row in rows
    )
    about = f"<caption>{escaped(caption)}</caption>" if caption else ""
    content = f"{about}<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll" tabindex="0"><table>{content}</table></div>'
