"""The page itself: HTML from what was gathered, and how each part came about."""

from __future__ import annotations

import html
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #16324a; --paper: #fbfaf6; --line: #e3ddcd; --card: #fff; --soft: #6a7680; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe9f1; --paper: #11181e; --line: #2a3640; --card: #18222b; --soft: #93a3b0; }
}
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 Georgia, "Times New Roman", serif; color: var(--ink); background: var(--paper); }
header { padding: 2.2rem 1.5rem 1rem; text-align: center; }
h1 { margin: 0; font-size: 2.3rem; letter-spacing: .02em; font-weight: 400; }
header p { margin: .3rem 0 0; color: var(--soft); font-style: italic; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 1.3rem; max-width: 980px;
  margin: 1rem auto; padding: 0 1.5rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.cover { height: 132px; padding: 1rem; display: flex; flex-direction: column; justify-content: flex-end; color: #fff;
  background: linear-gradient(160deg, hsl(var(--hue) 55% 45%), hsl(calc(var(--hue) + 30) 60% 24%)); }
.cover b { font-size: 1.15rem; font-weight: 400; line-height: 1.2; }
.cover span { font-size: .85rem; opacity: .85; }
.text { padding: .9rem 1rem 1rem; }
.text p { margin: 0 0 .5rem; min-height: 3em; }
.row { display: flex; justify-content: space-between; font-size: .9rem; color: var(--soft); }
.stars { letter-spacing: .1em; } .stars.red { color: #c8352b; }
.problem { color: #b3261e; font: .82rem/1.4 ui-monospace, monospace; }
@media (prefers-color-scheme: dark) { .problem { color: #ff8a80; } }
footer { max-width: 980px; margin: 1.5rem auto 2.5rem; padding: 0 1.5rem; color: var(--soft);
  font: .8rem/1.7 ui-monospace, monospace; }
footer b { color: var(--ink); font-weight: 600; }
"""


def render(shop: dict[str, Any]) -> str:
    """The whole page."""
    reader = f", {html.escape(shop['reader'].title())}" if shop["reader"] else ""
    books = "".join(card(book) for book in shop["books"]) or problem("The shelf is empty", shop["catalog_problem"])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>The Meltemi Bookshop</title><style>{STYLE}</style>"
        f"<header><h1>The Meltemi Bookshop</h1><p>Good wind{reader}. Books for long afternoons.</p></header>"
        f"<main>{books}</main><footer>{ways(shop)}</footer></html>"
    )


def card(book: dict[str, Any]) -> str:
    """One book."""
    review = book["review"]
    words = f"<p>{html.escape(review['words'])}</p>" if review else problem("No reviews", book["review_problem"])
    copies = book["copies"]
    stock = {None: "stock unknown", 0: "sold out"}.get(copies, f"{copies} in stock")
    return (
        f"<article><div class=cover style='--hue:{int(book['hue'])}'><b>{html.escape(book['title'])}</b>"
        f"<span>{html.escape(book['author'])}</span></div><div class=text>{words}"
        f"<div class=row><span>{stars(review)}</span><span>{stock}</span><b>€ {book['price']:.2f}</b></div></div></article>"
    )


def stars(review: dict[str, Any] | None) -> str:
    """Stars in the colour of the version that gave them; nothing where it gives none."""
    if not review or "colour" not in review:
        return ""
    if review.get("stars") is None:
        return "no stars"
    count = int(review["stars"])
    label = f"{count} of 5 stars"
    return (
        f"<span class='stars {review['colour']}' role=img aria-label='{label}'>{'★' * count}{'☆' * (5 - count)}</span>"
    )


def problem(what: str, why: str) -> str:
    """Something could not be shown, and what the caller was told."""
    return f"<p class=problem>{html.escape(what)}: {html.escape(why)}</p>"


def ways(shop: dict[str, Any]) -> str:
    """How this page came about: who answered, in which version and protocol."""
    versions = sorted({book["review"]["version"] for book in shop["books"] if book["review"]})
    catalog = shop["catalog"]
    parts = [
        f"catalog <b>{'HTTP/' + catalog['protocol'] if catalog else shop['catalog_problem']}</b>",
        f"reviews <b>HTTP/1.1 {' '.join(versions) or 'unavailable'}</b>",
        f"stock <b>gRPC</b>{failure(book['stock_problem'] for book in shop['books'])}",
        f"till <b>TCP {html.escape(shop['sold'] or shop['till_problem'])}</b>",
    ]
    if shop["request_id"]:
        parts.append(f"request <b>{html.escape(shop['request_id'])}</b>")
    return " &middot; ".join(parts)


def failure(problems: Any) -> str:
    """The first problem, if there is one."""
    first = next((each for each in problems if each), "")
    return f" <b>{html.escape(first)}</b>" if first else ""
