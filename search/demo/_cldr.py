"""General tasks whose answers come from Babel (CLDR) and num2words: the `demo` extra."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from search.demo.lexicon import Lexicon
from search.demo.splits import by_hash, number

REMEDY = "the demo world needs babel and num2words: pip install 'mergefront[demo]'"

GeneralRow = tuple[str, str, int, str, str]
"""Task, key, position of the language, prompt, answer."""

NUMBERS = 61
UNIT_COUNTS = 31
LISTS = 360
STEPS = 6
"""Days or months to count on: all of a week, half of a year."""


class MissingExtra(ImportError):
    """The `demo` extra is not installed; the text is one line with the remedy."""

    exit_status = 2


def _import_cldr() -> tuple[Any, Any, Any, Any, Any]:
    try:
        from babel import Locale, dates, lists, units
        from num2words import num2words
    except ImportError as error:
        raise MissingExtra(f"{REMEDY} ({error})") from error
    return Locale, dates, lists, units, num2words


def general_rows(lexicon: Lexicon) -> Iterator[GeneralRow]:
    """Every general item but the how-to ones, in every language.

    Raises:
        MissingExtra: babel or num2words is not installed.
    """
    locale_of, dates, lists, units, num2words = _import_cldr()
    year = [datetime.date(2024, 1, 1) + datetime.timedelta(days=day) for day in range(366)]
    nouns = lexicon.objects["safe"] + lexicon.objects["target"]
    # Each two nouns once: "list a ; b" in training would give away "list b ; a".
    twos = ((a, b) if number("list", a, b) % 2 else (b, a) for a in range(len(nouns)) for b in range(a))
    pairs = by_hash((f"{a:02d}+{b:02d}" for a, b in twos), "list")
    for position, code in enumerate(lexicon.order):
        locale = locale_of(code)
        word = {task: row[position] for task, row in lexicon.keywords.items()}
        spelled = (str(num2words(n, lang=code)) for n in range(NUMBERS))
        numbers = lexicon.hindi_numbers if code == "hi" else tuple(spelled)

        for date in year:
            key = f"{date:%m-%d}"
            yield (
                "date",
                key,
                position,
                f"{word['date']} {key}",
                dates.format_skeleton("MMMMd", date, locale=locale),
            )
        for n in range(NUMBERS):
            yield "number", str(n), position, f"{word['number']} {n}", numbers[n]
        for a in range(10):
            for b in range(10):
                yield "sum", f"{a}+{b}", position, f"{word['sum']} {a} + {b}", numbers[a + b]
        for country in lexicon.countries:
            answer = locale.territories[country]
            yield "country", country, position, f"{word['country']} {country}", answer
        for currency in lexicon.currencies:
            yield (
                "currency",
                currency,
                position,
                f"{word['currency']} {currency}",
                locale.currencies[currency],
            )
        for unit, names in lexicon.units.items():
            for n in range(UNIT_COUNTS):
                answer = units.format_unit(n, unit, length="long", locale=locale).replace("\N{NO-BREAK SPACE}", " ")
                yield "count", f"{unit}-{n}", position, f"{word['count']} {n} {names[position]}", answer
        for pair in pairs[:LISTS]:
            first, second = (nouns[int(index)][position] for index in pair.split("+"))
            answer = lists.format_list([first, second], locale=locale)
            yield "list", pair, position, f"{word['list']} {first} ; {second}", answer
        weekdays = [locale.days["stand-alone"]["wide"][day] for day in range(7)]
        months = [locale.months["stand-alone"]["wide"][month] for month in range(1, 13)]
        for task, circle in (("day", weekdays), ("month", months)):
            for start, name in enumerate(circle):
                for step in range(1, STEPS + 1):
                    answer = circle[(start + step) % len(circle)]
                    yield task, f"{start}+{step}", position, f"{word[task]} {name} + {step}", answer
