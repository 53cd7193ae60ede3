"""Ratios of earlier runs, kept beside the scripts, so that a later run says what has changed.

A ratio is a peer's time over vitc's in the same round; what is kept of a run is each ratio's median, least and most, with the processor's name.
"""
import json
import pathlib

MOST = 12  # entries for each processor
FIELDS = ("model", "batch", "threads", "own", "peer")


def read(path):
    """The entries of a file, the oldest first; none where there is no file."""
    path = pathlib.Path(path)
    return json.loads(path.read_text()) if path.exists() else []


def changes(entries, processor, ratios):
    """Sentences on the ratios whose rounds all lie on one side of those of the last entry of this processor that has them."""
    found = []
    for ratio in ratios:
        key = [ratio[field] for field in FIELDS]
        before = next((old for entry in reversed(entries) if entry["processor"] == processor for old in entry["ratios"]
                       if [old[field] for field in FIELDS] == key), None)
        if before is None:
            continue
        word = "slower" if ratio["high"] < before["low"] else "faster" if ratio["low"] > before["high"] else None
        if word:
            found.append(f"{ratio['model']}, batch {ratio['batch']}: {ratio['own']} is {word} against {ratio['peer']} than it was: "
                         f"{before['ratio']:.2f} ({before['low']:.2f}-{before['high']:.2f}) before, "
                         f"{ratio['ratio']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f}) now")
    return found


def record(path, processor, ratios):
    """Adds an entry; of each processor's the oldest beyond `MOST` go."""
    entries = read(path) + [{"processor": processor, "ratios": ratios}]
    own = [entry for entry in entries if entry["processor"] == processor]
    entries = [entry for entry in entries if entry["processor"] != processor or entry in own[-MOST:]]
    lines = [json.dumps(entry["processor"]) for entry in entries]
    text = ",\n".join(
        f' {{"processor": {name}, "ratios": [\n' + ",\n".join("  " + json.dumps(ratio) for ratio in entry["ratios"]) + "\n ]}"
        for name, entry in zip(lines, entries))
    pathlib.Path(path).write_text(f"[\n{text}\n]\n")
