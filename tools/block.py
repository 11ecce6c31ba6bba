"""A part of a page that a program writes: what stands between <!-- name --> and <!-- /name -->."""

from __future__ import annotations


def update(page, name, content, check=False):
    """Put content between the marks. Returns what there is to complain of: marks that are missing, or, with check,
    where nothing is written, a content that is not up to date."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = page.read_text(encoding="utf-8")
    if start not in text or end not in text:
        return [f"{page.name} has no place for this: {start} and {end}"]
    new = text[: text.index(start) + len(start)] + "\n" + content + text[text.index(end) :]
    if check and new != text:
        return [f"what stands below {start} in {page.name} is not up to date; run python tools/{name}.py"]
    if new != text:
        page.write_text(new, encoding="utf-8")
    return []
