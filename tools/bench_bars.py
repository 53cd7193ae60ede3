"""The rows of `tools/bench precision` as bars: milliseconds of each runner, a panel for each model and batch."""
from bench_peers.chart import STYLE, text

COLOURS = {"vitc": "#d1495b", "OpenVINO": "#4c8fd6", "ONNX Runtime": "#8a8f98"}
LEFT, WIDTH, BAR = 196, 530, 20


def draw(rows, title):
    """The chart as SVG; it reads on a light and on a dark page. A bar is the median, the line on it reaches from least to most."""
    parts, down = [text(16, 20, title, attributes=' class="title"')], 46
    for model, batch, threads in dict.fromkeys((row["model"], row["batch"], row["threads"]) for row in rows):
        own = [row for row in rows if (row["model"], row["batch"], row["threads"]) == (model, batch, threads)]
        most = max(row["ms_high"] for row in own)
        across = lambda ms: LEFT + WIDTH * ms / most
        images = "one image" if batch == 1 else f"{batch} images"
        parts.append(text(16, down, f"{model}, {images}, {threads} thread{'s' if threads > 1 else ''}: ms", attributes=' class="title"'))
        down += 10
        for row in own:
            colour = next((colour for name, colour in COLOURS.items() if row["runner"].startswith(name)), "#2a9d8f")
            middle = down + BAR / 2
            parts.append(text(LEFT - 8, middle + 4, row["runner"], "end"))
            parts.append(f'<path d="M{LEFT} {down + 3}H{across(row["ms"]):.1f}v{BAR - 6}H{LEFT}Z" fill="{colour}"/>')
            parts.append(f'<path class="axis" d="M{across(row["ms_low"]):.1f} {middle}H{across(row["ms_high"]):.1f}"/>')
            parts.append(text(across(row["ms_high"]) + 8, middle + 4, f"{row['ms']:.3g}"))
            down += BAR
        down += 30
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {down}" width="800" height="{down}" role="img">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n")
