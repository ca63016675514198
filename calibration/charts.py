"""Charts for a page, as HTML that plotly's script draws: sensitivity along a network, histograms, a trade-off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepose.calibration.seen import COLUMNS, TensorSeen
from edgepose.calibration.sensitivity import Sensitivities
from edgepose.errors import MissingPackageError

HEIGHT = 360
LABEL = 28  # characters of a layer's name that a chart shows


def chart_script() -> str:
    """What the charts of a page need, once: it stands in the page, which loads nothing.

    Raises:
        MissingPackageError: plotly is not installed.
    """
    _graph_objects()
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def sensitivity_bars(found: Sensitivities) -> str:
    """How far key points move with each layer alone in INT8, along the network, and with all but that layer."""
    go = _graph_objects()
    names = list(found.layers)
    alone = [each.only.shift_px for each in found.layers.values()]
    others = [each.all_but.shift_px for each in found.layers.values()]
    noise = [f"{name}<br>{each.only.sqnr_db:.1f} dB alone" for name, each in found.layers.items()]
    figure = go.Figure(
        [
            go.Bar(x=list(range(len(names))), y=alone, name="that layer alone in INT8", hovertext=noise),
            go.Scatter(x=list(range(len(names))), y=others, name="all but that layer", mode="lines", hovertext=names),
        ]
    )
    figure.update_xaxes(title="layer, from input to output")
    figure.update_yaxes(title="shift, px of the input", rangemode="tozero")
    figure.add_hline(found.whole.shift_px, line={"dash": "dot", "width": 1}, annotation_text="all in INT8")
    return _html(figure)


def histogram(name: str, seen: TensorSeen) -> str:
    """A tensor's magnitudes, and the range that was chosen for it."""
    go = _graph_objects()
    width = seen.top / COLUMNS
    centres = [(index + 0.5) * width for index in range(COLUMNS)]
    figure = go.Figure(go.Bar(x=centres, y=[count or None for count in seen.histogram], showlegend=False))
    figure.add_vline(seen.range, line={"dash": "dash"}, annotation_text=f"127 = {seen.range:.4g}")
    figure.update_layout(title={"text": _short(name), "font": {"size": 14}}, bargap=0)
    figure.update_xaxes(title=f"magnitude; {seen.clipped:.3%} beyond the range")
    figure.update_yaxes(title="values", type="log")
    return _html(figure)


def trade_off(points: Sequence[Mapping[str, Any]], cost: str, loss: str, budget: float | None) -> str:
    """What mixes cost and what they lose: dicts of cost, loss, error, text, chosen (bool)."""
    go = _graph_objects()
    figure = go.Figure()
    for chosen, name, symbol in ((False, "tried", "circle-open"), (True, "chosen", "star")):
        some = [point for point in points if point["chosen"] == chosen]
        figure.add_trace(
            go.Scatter(
                x=[point["cost"] for point in some],
                y=[point["loss"] for point in some],
                error_y={"type": "data", "array": [point["error"] for point in some], "thickness": 1},
                hovertext=[point["text"] for point in some],
                mode="markers",
                marker={"symbol": symbol, "size": 16 if chosen else 9},
                name=name,
            )
        )
    if budget is not None:
        figure.add_hline(budget, line={"dash": "dash", "width": 1}, annotation_text="budget")
    figure.update_xaxes(title=cost)
    figure.update_yaxes(title=loss)
    return _html(figure)


def _short(name: str) -> str:
    return name if len(name) <= LABEL else f"…{name[-LABEL:]}"


def _html(figure: Any) -> str:
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 60, "r": 15, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.15},
        template="plotly_white",
        autosize=True,
    )
    from plotly.io import to_html

    options = {"responsive": True, "displaylogo": False, "displayModeBar": False}
    return str(to_html(figure, config=options, full_html=False, include_plotlyjs=False))


def _graph_objects() -> Any:
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise MissingPackageError("plotly", "report") from error
    return graph_objects
