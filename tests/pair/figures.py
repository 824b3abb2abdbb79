"""The form of all benchmark results: a table for people, {"figures": [...]} for programs."""

import json


def figure(name, value, unit, aim=None, at_least=None):
    """`aim`: the most it should be, `at_least`: the least; neither: reported only."""
    made = {"name": name, "value": value, "unit": unit, "aim": aim}
    return made if at_least is None else made | {"at_least": at_least}


def aim_of(f):
    """As text, and whether it is met; None: there is none."""
    if f["aim"] is not None:
        return f"<= {f['aim']}", f["value"] <= f["aim"]
    if "at_least" in f:
        return f">= {f['at_least']}", f["value"] >= f["at_least"]
    return "", None


def table(figures):
    width = max(len(f["name"]) for f in figures)
    lines = [f"{'figure':<{width}}  {'value':>12}  {'unit':<6}  aim"]
    for f in figures:
        aim, met = aim_of(f)
        said = {None: "", True: "  met", False: "  MISSED"}[met]
        lines.append(f"{f['name']:<{width}}  {f['value']:>12}  {f['unit']:<6}  {aim}{said}")
    return "\n".join(lines)


def write(path, figures):
    with open(path, "w", encoding="ascii") as out:
        json.dump({"figures": figures}, out, indent=1)
        out.write("\n")
