"""Charts as inline SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sadr_cli.evaluation.data.benchmark import Array
from sadr_cli.evaluation.measures.metrics import ced

# Okabe and Ito's palette: distinguishable with colour blindness.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")

_WIDTH, _HEIGHT = 560, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 12, 44


@dataclass(frozen=True)
class Series:
    """One curve or scatter plot; ``x`` and ``y`` have the same length."""

    label: str
    x: Array
    y: Array
    color: str
    dashed: bool = False


class _Axes:
    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], x_label: str, y_label: str
    ) -> None:
        self.x, self.y = x, y
        self.labels = x_label, y_label
        self.parts: list[str] = []

    def px(self, x: Array | float) -> Array:
        share = (np.asarray(x, float) - self.x[0]) / (self.x[1] - self.x[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def py(self, y: Array | float) -> Array:
        share = (np.asarray(y, float) - self.y[0]) / (self.y[1] - self.y[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self, x_ticks: Sequence[float], y_ticks: Sequence[float], percent: bool) -> None:
        for tick in x_ticks:
            at = float(self.px(tick))
            self.parts.append(
                f'<path class="grid" d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
                f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
                f"{tick:g}</text>"
            )
        for tick in y_ticks:
            at = float(self.py(tick))
            text = f"{100 * tick:.0f} %" if percent else f"{tick:g}"
            self.parts.append(
                f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>'
                f'<text x="{_LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
            )

    def line(self, series: Series) -> None:
        points = np.stack([self.px(series.x), self.py(series.y)], 1).clip(-9999, 9999)
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if len(points) else ""
        dash = ' stroke-dasharray="6 4"' if series.dashed else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{series.color}" stroke-width="2"{dash}/>'
        )

    def dots(self, series: Series) -> None:
        path = "".join(
            f"M{x:.1f} {y:.1f}h0" for x, y in zip(self.px(series.x), self.py(series.y), strict=True)
        )
        self.parts.append(
            f'<path d="{path}" stroke="{series.color}" stroke-width="3.2" stroke-opacity=".32" '
            'stroke-linecap="round"/>'
        )

    def legend(self, series: Sequence[Series], right: bool, top: bool) -> None:
        width = 30 + 6.3 * max(len(s.label) for s in series)
        x0 = _WIDTH - _RIGHT - width - 8 if right else _LEFT + 10
        y0 = _TOP + 14 if top else _HEIGHT - _BOTTOM - 18 * len(series) + 4
        self.parts.append(
            f'<rect class="legend" x="{x0 - 6:.0f}" y="{y0 - 15:.0f}" width="{width:.0f}" '
            f'height="{18 * len(series) + 6}" rx="4"/>'
        )
        for k, s in enumerate(series):
            y = y0 + 18 * k
            dash = ' stroke-dasharray="5 3"' if s.dashed else ""
            self.parts.append(
                f'<path d="M{x0:.0f} {y - 4}h18" stroke="{s.color}" stroke-width="3"{dash}/>'
            )
            text = Markup('<text x="{:.0f}" y="{}">{}</text>')
            self.parts.append(text.format(x0 + 24, y, s.label))

    def svg(self, title: str) -> Markup:
        x_label, y_label = self.labels
        return Markup(
            '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
            '<svg x="0" y="0" width="{width}" height="{height}">{parts}</svg>'
            '<text x="{x:.0f}" y="{bottom}" text-anchor="middle">{x_label}</text>'
            '<text transform="translate(13 {y:.0f}) rotate(-90)" text-anchor="middle">'
            "{y_label}</text></svg>"
        ).format(
            width=_WIDTH,
            height=_HEIGHT,
            title=title,
            parts=Markup("".join(self.parts)),
            x=(_LEFT + _WIDTH - _RIGHT) / 2,
            y=(_TOP + _HEIGHT - _BOTTOM) / 2,
            bottom=_HEIGHT - 8,
            x_label=x_label,
            y_label=y_label,
        )


def ced_chart(errors: dict[str, Array]) -> Markup:
    """Cumulative error curves of the labelled errors (N,), up to 10 percent."""
    thresholds = np.linspace(0, 10, 201)
    axes = _Axes((0, 10), (0, 1), "error (%)", "images with at most this error")
    axes.grid([0, 2, 4, 6, 8, 10], [0, 0.2, 0.4, 0.6, 0.8, 1.0], percent=True)
    series = []
    for k, (label, values) in enumerate(errors.items()):
        color, dashed = PALETTE[k % len(PALETTE)], k >= len(PALETTE)
        series.append(Series(label, thresholds, ced(values, thresholds), color, dashed))
        axes.line(series[-1])
    axes.legend(series, right=True, top=False)
    return axes.svg("cumulative error distribution")


def yaw_chart(errors: dict[str, Array], yaw: Array, y_label: str) -> Markup:
    """Error against yaw: one dot per image, and the running median over 15 degrees of yaw."""
    finite = np.concatenate([e[np.isfinite(e)] for e in errors.values()])
    top = float(np.ceil(np.percentile(finite, 99.5))) if finite.size else 1.0
    limit = max(90.0, float(np.ceil(np.abs(yaw).max() / 30) * 30)) if yaw.size else 90.0
    axes = _Axes((-limit, limit), (0, max(top, 1.0)), "true yaw (degrees)", y_label)
    step = max(1.0, float(np.ceil(top / 6)))
    axes.grid(
        np.arange(-limit, limit + 1, 30).tolist(), np.arange(0, top + 0.01, step).tolist(), False
    )
    lines = []
    for k, (label, values) in enumerate(errors.items()):
        color = PALETTE[k % len(PALETTE)]
        found = np.isfinite(values)
        axes.dots(Series(label, yaw[found], values[found], color))
        x, y = _running_median(yaw[found], values[found], limit)
        lines.append(Series(f"{label}, median", x, y, color))
    for line in lines:
        axes.line(line)
    axes.legend(lines, right=False, top=True)
    return axes.svg("error by yaw")


def _running_median(yaw: Array, values: Array, limit: float) -> tuple[Array, Array]:
    centers = np.arange(-limit, limit + 1, 7.5)
    near = [values[np.abs(yaw - c) <= 7.5] for c in centers]
    enough = np.array([len(part) >= 3 for part in near])
    medians = np.array([np.median(part) for part in near if len(part) >= 3])
    return centers[enough], medians
