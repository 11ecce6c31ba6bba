"""A part of README.md that a program writes: what stands between <!-- name --> and <!-- /name -->."""
from __future__ import annotations


def update(readme, name, content, check=False):
    """Put content between the marks. Returns what there is to complain of: marks that are missing, or, with check,
    where nothing is written, a content that is not up to date."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = readme.read_text(encoding="utf-8")
    if start not in text or end not in text:
        return [f"README.md has no place for this: {start} and {end}"]
    new = text[:text.index(start) + len(start)] + "\n" + content + text[text.index(end):]
    if check and new != text:
        return [f"what stands below {start} in README.md is not up to date; run python tools/{name}.py"]
    if new != text:
        readme.write_text(new, encoding="utf-8")
    return []
