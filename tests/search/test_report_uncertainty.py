"""Intervals, optimism and what a race saved, as the report shows them."""

from search._report.rows import clean
from search.report import report_html

from .test_report import Page, synthetic


def test_intervals_optimism_and_what_a_race_saved_are_shown() -> None:
    front, history = synthetic(merges=5)
    plain = "".join(Page(report_html(clean(front), clean(history))).text)
    assert "true one" not in plain
    assert "Items scored" not in plain
    name = next(iter(front["objectives"]))
    front |= {
        "level": 0.9,
        "hypervolume_interval": [0.3, 0.45],
        "optimism": {name: {"value": 0.02, "stderr": 0.01, "low": 0.004, "high": 0.036, "points": 3}},
        "items": {"scored": 3000, "full": 4000, "dropped": 2},
    }
    shown = next(point for point in front["points"] if point["on_front"])
    shown["scores"][name] |= {"low": 0.1, "high": 0.2}
    page = Page(report_html(clean(front), clean(history)))
    text = "".join(page.text)
    assert "0.432 as measured; true one 0.300 to 0.450 (90% interval)" in text
    assert "3,000, 75% of 4,000: 2 merges dropped early" in text
    assert "Over the 3 confirmed merges: +0.020, 90% interval +0.004 to +0.036." in text
    titles = [attributes.get("title") or "" for _, attributes in page.starts]
    assert any(title.startswith("90% interval: 0.100 to 0.200") for title in titles)
