"""The rows of `tools/bench reduce` as a chart: points of accuracy lost, against parameters kept and against time."""
import html

WORST = 4.0  # points lost at the top of a panel
LEFT, TOP, WIDTH, HEIGHT, GAP = 52, 84, 360, 300, 64
# Title, range and value of what goes across.
PANELS = [
    ("parameters kept", (20, 100), lambda row: row["parameters_kept"]),
    ("time of one image kept, ONNX Runtime", (40, 140), lambda row: row.get("onnxruntime_1", {}).get("ratio", [None])[0]),
]
MARKS = {
    "vitc": ("#d1495b", "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z"),
    "torch-pruning": ("#4c8fd6", "M-4-4H4V4H-4Z"),
    "magnitude pruning": ("#2a9d8f", "M0-5.5 5.5 0 0 5.5-5.5 0Z"),
    "weighted SVD": ("#a07be0", "M0-5 5 4H-5Z"),
    "SVD": ("#c77dba", "M0 5 5-4H-5Z"),
    "ToMe": ("#c08a2e", "M-5-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z"),
    "blocks dropped": ("#7f9a3a", "M-5-5 0-2 5-5 2 0 5 5 0 2-5 5-2 0Z"),
    "blocks made linear": ("#8a8f98", "M-5 3V-3H5V3Z"),
}
STYLE = """text{font:12px system-ui,sans-serif;fill:#57606a}.axis{stroke:#8b949e;stroke-width:1}.grid{stroke:#8b949e;stroke-opacity:.25}
.title{font-weight:600}@media(prefers-color-scheme:dark){text{fill:#adbac7}}"""


def text(x, y, content, anchor="start", attributes=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{html.escape(content)}</text>'


def frontier(points):
    """Those that no other beats in both directions, from left to right."""
    best = []
    for x, lost, _ in sorted(points, key=lambda point: point[:2]):
        if not best or lost < best[-1][1]:
            best.append((x, lost))
    return best


def panel(rows, left, title, limits, value):
    """One panel; what is better is farther up and to the left."""
    low, high = limits
    across = lambda x: left + (100 * x - low) / (high - low) * WIDTH
    down = lambda lost: TOP + HEIGHT * (lost + 0.5) / (WORST + 0.5)
    parts = [text(left + WIDTH / 2, TOP + HEIGHT + 38, title, "middle", ' class="title"')]
    for tick in range(low, high + 1, 20):
        x = across(tick / 100)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{TOP + HEIGHT}"/>')
        parts.append(text(x, TOP + HEIGHT + 18, f"{tick} %", "middle"))
    for lost in range(int(WORST) + 1):
        parts.append(f'<path class="{"grid" if lost else "axis"}" d="M{left} {down(lost):.1f}h{WIDTH}"/>')
        parts.append(text(left - 8, down(lost) + 4, f"−{lost}" if lost else "0", "end"))
    for name, (colour, mark) in MARKS.items():
        points = [(value(row), -row["points"], row["trained"]) for row in rows if row["name"] == name and value(row) is not None]
        points = [p for p in points if p[1] <= WORST and low <= 100 * p[0] <= high]
        line = " ".join(f"{across(x):.1f},{down(lost):.1f}" for x, lost in frontier([p for p in points if not p[2]]))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-opacity=".6" stroke-width="1.5"/>')
        for x, lost, trained in points:
            fill = "none" if trained else colour
            parts.append(f'<path d="{mark}" transform="translate({across(x):.1f} {down(lost):.1f})" fill="{fill}" stroke="{colour}" '
                         'stroke-width="1.5"/>')
    return parts


def draw(rows, title):
    """The chart as SVG; it reads on a light and on a dark page."""
    width, height = LEFT + 2 * WIDTH + GAP + 20, TOP + HEIGHT + 70
    beyond = sum(row["points"] < -WORST for row in rows)
    parts = [text(LEFT, 18, title, attributes=' class="title"')]
    for index, (name, (colour, mark)) in enumerate(MARKS.items()):
        x, y = LEFT + 8 + index % 4 * 190, 40 + index // 4 * 20
        parts.append(f'<path d="{mark}" transform="translate({x} {y})" fill="{colour}"/>')
        parts.append(text(x + 12, y + 4, name))
    for index, settings in enumerate(PANELS):
        parts += panel(rows, LEFT + index * (WIDTH + GAP), *settings)
    parts.append(text(LEFT, height - 8, "points of accuracy, all test images; hollow: trained, line: the best without training"
                      + (f"; {beyond} rows lose more than {WORST:g} points" if beyond else "")))
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
            f"<style>{STYLE}</style>\n{body}\n</svg>\n")
