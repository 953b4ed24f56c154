"""HTML by construction: text is escaped unless it was built here, so no caller can forget to."""

import html
from collections.abc import Iterable
from typing import TypeAlias


class Html(str):
    """Markup that is already safe to place in a page; every other string gets escaped."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def tag(name: str, *children: Child, **attributes: str | bool | None) -> Html:
    """One element, with its children escaped.

    Args:
        name: the element's name; `br`, `col` and the like take no children and get no closing tag.
        children: text (escaped), `Html` (kept), iterables of these (flattened), or None (left out).
        attributes: values are escaped; True writes the bare name, False and None leave it out. A trailing
            underscore is dropped (`class_`), and inner ones become hyphens (`aria_label`).
    """
    head = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            head.append(key)
        elif value is not None and value is not False:
            head.append(f'{key}="{html.escape(value)}"')
    opening = f"<{' '.join(head)}>"
    if name in ("br", "col", "hr", "input"):
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """The children one after the other, each escaped unless it is `Html`."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(str(child))
        elif isinstance(child, str):
            parts.append(html.escape(child))
        else:
            parts.append(join(*child))
    return Html("".join(parts))


def table(
    caption: str,
    head: Iterable[Child],
    rows: Iterable[Iterable[Child]],
    *,
    numeric: tuple[int, ...] = (),
    groups: tuple[tuple[str, int], ...] = (),
    **attributes: str | bool | None,
) -> Html:
    """A captioned table inside a box that scrolls sideways and that the keyboard can reach.

    Args:
        caption: what the table holds, one sentence.
        head: one column heading each.
        rows: cells; the first cell of a row is its heading.
        numeric: indices of the columns to align right.
        groups: headings over several columns, as (text, number of columns); "" leaves a gap.
        attributes: attributes of the table element, as in `tag`.
    """

    def cell(column: int, child: Child) -> Html:
        if isinstance(child, Html) and child.startswith(("<td", "<th")):
            return child
        kind = "num" if column in numeric else None
        if column == 0:
            return tag("th", child, scope="row", class_=kind)
        return tag("td", child, class_=kind)

    heading = tag(
        "tr",
        (tag("th", title, scope="col", class_="num" if i in numeric else None) for i, title in enumerate(head)),
    )
    above = tag(
        "tr",
        (
            tag("th", title, scope="colgroup", colspan=str(span)) if title else tag("td", colspan=str(span))
            for title, span in groups
        ),
        class_="groups",
    )
    body = (tag("tr", (cell(i, child) for i, child in enumerate(row))) for row in rows)
    inner = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", above if groups else None, heading),
        tag("tbody", *body),
        **attributes,
    )
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)
