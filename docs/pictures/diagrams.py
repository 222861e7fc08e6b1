# SPDX-License-Identifier: AGPL-3.0-or-later
"""Draw the diagrams of the docs as SVG: `python docs/pictures/diagrams.py`.

A diagram is drawn once for each language; only its texts differ. Widths are such that the text can be read on a phone.
"""

from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
WIDTH, MARGIN, GAP = 660, 14, 30
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans CJK SC', 'Microsoft YaHei', sans-serif"
INK, PALE, SIDE, BLUE = "#1f2937", "#eef2f7", "#fff7e6", "#0b6bcb"
PIPELINE = {  # file's ending: title, lines and kind of each box, in the order of a run
    "": [
        ("base", ["only for a .yaml:", "train it first"], SIDE),
        ("sparsify", ["four methods: pull", "channels to zero"], SIDE),
        ("prune", ["trace, rank, solve,", "cut, check"], PALE),
        ("fine-tune", ["the dense model", "is the teacher"], PALE),
        ("deploy", ["on demand: export,", "INT8, validate, time"], SIDE),
        ("report", ["what was gained,", "what was lost"], PALE),
    ],
    ".zh": [
        ("base 基础训练", ["仅当模型是 .yaml：", "先训练稠密模型"], SIDE),
        ("sparsify 稀疏训练", ["仅四种方法需要：", "把通道拉向零"], SIDE),
        ("prune 剪枝", ["追踪、排序、求解、", "切除、校验"], PALE),
        ("fine-tune 微调", ["以稠密模型为教师", "进行蒸馏"], PALE),
        ("deploy 部署", ["按需：导出、INT8、", "验证、计时"], SIDE),
        ("report 报告", ["得到了什么，", "损失了什么"], PALE),
    ],
}
FLOORS = {  # rooms of each floor, from the top down, and what it is for
    "": [
        (["models/<family>/<task>"], "a few lines for each task"),
        (["engine/compress"], "runs: stages, sweep, deploy"),
        (["prune", "report"], "model in, model out"),
        (["ranking"], "what a channel is worth"),
        (["budget"], "how many each layer keeps"),
        (["latency", "sparsity", "surgery"], "timing, regularisers, slicing"),
        (["checkpoint"], "what a pruned model carries"),
        (["graph"], "which channels go together"),
        (["nn/extra_modules"], "prunable forms of blocks"),
    ],
    ".zh": [
        (["models/<family>/<task>"], "每个任务只有几行"),
        (["engine/compress"], "运行：阶段、扫描、部署"),
        (["prune", "report"], "输入模型，输出模型"),
        (["ranking"], "一个通道值多少"),
        (["budget"], "每层保留多少"),
        (["latency", "sparsity", "surgery"], "毫秒、正则项、切除"),
        (["checkpoint"], "剪枝模型携带的记录"),
        (["graph"], "哪些通道必须一起走"),
        (["nn/extra_modules"], "模块的可剪枝形式"),
    ],
}


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str = "#94a3b8") -> str:
    """Return a box with round corners."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{stroke}"/>'


def text(x: float, y: float, words: str, size: int = 16, anchor: str = "middle", weight: int = 400) -> str:
    """Return a line of text."""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{INK}">'
        f"{escape(words)}</text>"
    )


def arrow(*points: tuple[float, float]) -> str:
    """Return a line through points with a head at its end."""
    way = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{way}" fill="none" stroke="{BLUE}" stroke-width="2.5" marker-end="url(#head)"/>'


def svg(height: float, parts: list[str]) -> str:
    """Return the picture of parts."""
    head = f'<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{BLUE}"/></marker>'  # noqa: E501
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="{FONT}">\n'
        f"<defs>{head}</defs>\n{box(1, 1, WIDTH - 2, height - 2, 'white', '#e2e8f0')}\n{inside}\n</svg>\n"
    )


def draw_pipeline(boxes: list[tuple[str, list[str], str]]) -> str:
    """Return the stages of a run: two rows of three."""
    width, height = (WIDTH - 2 * MARGIN - 2 * GAP) / 3, 104
    places = [(MARGIN + i % 3 * (width + GAP), MARGIN + i // 3 * (height + 46)) for i in range(len(boxes))]
    parts = []
    for i, ((title, lines, fill), (x, y)) in enumerate(zip(boxes, places)):
        parts += [box(x, y, width, height, fill), text(x + width / 2, y + 32, title, 19, weight=600)]
        parts += [text(x + width / 2, y + 62 + 24 * k, line, 17) for k, line in enumerate(lines)]
        if i % 3:
            parts.append(arrow((x - GAP + 3, y + height / 2), (x - 4, y + height / 2)))
    (x, y), (below, _) = places[2], places[3]
    middle = y + height + 23
    turn = [(x + width / 2, y + height + 2), (x + width / 2, middle), (below + width / 2, middle)]
    parts.append(arrow(*turn, (below + width / 2, y + height + 42)))
    return svg(2 * height + 46 + 2 * MARGIN, parts)


def draw_floors(floors: list[tuple[list[str], str]]) -> str:
    """Return the floors of the library, one below the other."""
    height, left = 46, 330
    parts = []
    for i, (rooms, purpose) in enumerate(floors):
        y = MARGIN + i * (height + 8)
        width = (left - 8 * (len(rooms) - 1)) / len(rooms)
        for k, room in enumerate(rooms):
            x = MARGIN + k * (width + 8)
            parts += [
                box(x, y, width, height, PALE if 1 < i < len(floors) - 1 else SIDE),
                text(x + width / 2, y + 29, room, 17, weight=600),
            ]
        parts.append(text(left + 2 * MARGIN, y + 29, purpose, 16, "start"))
    return svg(len(floors) * (height + 8) + 2 * MARGIN - 8, parts)


if __name__ == "__main__":
    for ending in PIPELINE:
        (FOLDER / f"pipeline{ending}.svg").write_text(draw_pipeline(PIPELINE[ending]), encoding="utf-8")
        (FOLDER / f"floors{ending}.svg").write_text(draw_floors(FLOORS[ending]), encoding="utf-8")
