"""Ratings, HTTP/1.1: the stars that readers gave a book."""

from __future__ import annotations

from apps.web import VERSION, Reply, Request, serve

STARS = {"1": 5, "2": 4, "3": 5, "4": 3, "5": 4, "6": 5}


def answer(request: Request) -> Reply:
    """`/ratings/<book>` gives the number of stars, 1 to 5."""
    book = request.path.rpartition("/")[2]
    if book not in STARS:
        return Reply({"error": f"nobody has rated book {book!r}"}, status=404)
    return Reply({"book": book, "stars": STARS[book], "version": VERSION})


if __name__ == "__main__":
    serve(9080, answer)
