"""The form of all benchmark results: a table for people, {"figures": [...]} for programs."""

import json


def figure(name, value, unit, aim=None):
    """`aim`: the most it should be; None: reported only."""
    return {"name": name, "value": value, "unit": unit, "aim": aim}


def table(figures):
    width = max(len(f["name"]) for f in figures)
    lines = [f"{'figure':<{width}}  {'value':>12}  {'unit':<6}  aim"]
    for f in figures:
        aim = "" if f["aim"] is None else f"<= {f['aim']}"
        met = "" if f["aim"] is None else ("  met" if f["value"] <= f["aim"] else "  MISSED")
        lines.append(f"{f['name']:<{width}}  {f['value']:>12}  {f['unit']:<6}  {aim}{met}")
    return "\n".join(lines)


def write(path, figures):
    with open(path, "w", encoding="ascii") as out:
        json.dump({"figures": figures}, out, indent=1)
        out.write("\n")
