"""The first card of the page: which file val chose, whether it may be shipped, and by what rules.

Read from tables; the verdict is `evidence.verdict`'s, and older results folders have none.
"""

import pandas as pd

from ..evidence.bootstrap import Interval, gain_in_words
from ..evidence.choose import file_to_ship
from ..evidence.gains import against_alone
from ..evidence.metrics import METRICS
from ..evidence.verdict import NONE_IS_GOOD, chance
from ..words import plural
from .cells import percent
from .frames import NAME, Tables, interval_of
from .gallery import student_in_words, tflite_name

BEST_ON_VAL = "Chosen by accuracy on val, the smaller file among equals"
SMALLEST_GOOD = "The smallest of the files compared whose accuracy on val is within the interval of the best"
MET = {1.0: "met", 0.0: "not met"}
NOT_ASKED = "does not apply"


def chosen_file(tables: Tables, manifest: dict) -> pd.Series:
    """The row of `summary.csv` of the `.tflite` that val chose; older manifests do not name it."""
    summary = tables["summary"]
    ship = manifest.get("ship") or file_to_ship(summary.to_dict("records"))
    return summary[(summary[NAME] == [ship[name] for name in NAME]).all(axis=1)].iloc[0]


def answer(tables: Tables, file: pd.Series, classes: int) -> dict:
    """The opening of the page: what is to be said of the file that val chose, a row of `summary.csv`."""
    student = student_in_words(file.teacher)
    name = tflite_name(file.teacher, file.recipe)
    described = f"{name}: {student[0].lower()}{student[1:]}, recipe {file.recipe}."
    rules = verdict_rows(tables)
    broken = [rule["rule"] for rule in rules if rule["met"] == MET[0.0]]
    headline, best = f"Ship {described}", ""
    if broken:
        headline = NONE_IS_GOOD
        best = f"Val chose {described} It breaks {len(broken)} of {len(rules)} rules."
    rows = tables["comparisons"]
    images = "clean" if interval_of(tables, file, "accuracy", "clean") is not None else "all"
    rows = rows[(rows.images == images) & (rows.teacher == file.teacher) & (rows.seed == file.seed)]
    gain = rows[rows.question == "distilled against alone"].verdict.tolist()
    return {
        "good": not broken,
        "headline": headline,
        "best": best,
        "sure": " ".join([_scores_in_words(tables, file), *gain, *gains_over_seeds(tables, file.teacher)]),
        "facts": _facts(tables, file, classes),
        "rules": rules,
        "rule": SMALLEST_GOOD if "frontier" in tables else BEST_ON_VAL,
    }


def verdict_rows(tables: Tables) -> list[dict]:
    """The rules as the page lists them; none of a run that was not judged."""
    if "verdict" not in tables:
        return []
    rows = tables["verdict"]
    met = [MET.get(value, NOT_ASKED) for value in rows.met.map(_as_number)]
    lines = zip(rows.rule, rows.asked, rows.found, met, strict=True)
    return [dict(zip(("rule", "asked", "found", "met"), line, strict=True)) for line in lines]


def _as_number(met: object) -> float | None:
    """True, False or nothing, as a column of a CSV file has them beside one another."""
    return {"True": 1.0, "False": 0.0}.get(str(met))


def _scores_in_words(tables: Tables, file: pd.Series) -> str:
    """Accuracy on the images that count first, with its interval."""
    count = f"{file.test_images:.0f} test {plural(int(file.test_images), 'image')}"
    accuracy = interval_of(tables, file, "accuracy", "all")
    clean = interval_of(tables, file, "accuracy", "clean")
    text = f"{percent(file.accuracy)} % of {count} right (95 % interval {_ends(accuracy)})"
    if clean is not None:
        text = f"{percent(clean.value)} % ({_ends(clean)}) right of the {file.clean_images:.0f} test images "
        text += (
            f"without a copy in train or val. With the copies it is {percent(file.accuracy)} % of {count} "
        )
        text += f"(95 % interval {_ends(accuracy)}), which is too good"
    return text + "."


def _facts(tables: Tables, file: pd.Series, classes: int) -> list[dict]:
    """The tiles of the card: what is without copies goes before what is not."""
    label, area = METRICS["accuracy"].label, f"macro {METRICS['auc'].label}"
    clean = interval_of(tables, file, "accuracy", "clean") is not None
    copies = file.test_images - file.clean_images
    with_copies = f", {copies:.0f} {plural(int(copies), 'copy', 'copies')} included" if clean else ""
    facts = {
        f"{label} without copies": f"{file.clean_accuracy:.3f}" if clean else "",
        f"{label} on test{with_copies}": f"{file.accuracy:.3f}",
        "largest class, always named": _majority(tables),
        f"chance, {classes} {plural(classes, 'class', 'classes')}": f"{chance(classes):.3f}"
        if classes
        else "",
        f"{area} without copies" if clean else area: _number(file.clean_auc if clean else file.auc, ".3f"),
        "size": f"{file.size_kib:,.0f} KiB",
        "for one image, one thread": _number(file.latency_ms, ".2f", " ms"),
    }
    return [{"name": name, "value": value} for name, value in facts.items() if value]


def _majority(tables: Tables) -> str:
    """What always naming the largest class would get right, as the verdict has it."""
    rows = tables.get("verdict", pd.DataFrame({"limit": []}))
    return f"{rows.limit.iloc[0]:.3f}" if len(rows) else ""


def _number(value: float, style: str, unit: str = "") -> str:
    return "" if pd.isna(value) else f"{value:{style}}{unit}"


def gains_over_seeds(tables: Tables, name: str) -> list[str]:
    """Over repeated seeds, in words: what the students that tables call `name` gained on average.

    Of a run without `gains.csv`: what those of every teacher gained.
    """
    if "gains" in tables:
        rows = tables["gains"]
        return rows[(rows.images == "all") & (rows.teacher == name) & (rows.seeds > 1)].verdict.tolist()
    seeds = tables["seeds"]
    if "gain" not in seeds:
        return []
    rows = seeds[(seeds.images == "all") & seeds.gain.notna()]
    if "verdict" in rows:
        return rows.verdict.tolist()
    return [  # of kdtf 0.1.0
        gain_in_words(against_alone(row.teacher), Interval(row.gain, row.gain_low, row.gain_high), row.seeds)
        for row in rows.itertuples()
    ]


def _ends(interval: pd.Series) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)} %"
