"""Reviews, HTTP/1.1, in three versions: v1 has words only, v2 adds black stars, v3 adds red ones.

The stars come from `ratings`; when it cannot be reached, the words are shown without them.
"""

from __future__ import annotations

from apps.web import VERSION, Reply, Request, fetch, serve

WORDS = {
    "1": "A sea one does not want to leave.",
    "2": "Winds have never been told so well.",
    "3": "Read it on a quay, with salt on the pages.",
    "4": "Slow, like the afternoon it describes.",
    "5": "The lighthouse keeper stays with you.",
    "6": "Every chapter smells of pine and thyme.",
}
COLOUR = {"v2": "black", "v3": "red"}


def answer(request: Request) -> Reply:
    """`/reviews/<book>` gives what readers say."""
    book = request.path.rpartition("/")[2]
    if book not in WORDS:
        return Reply({"error": f"nobody has reviewed book {book!r}"}, status=404)
    review: dict[str, object] = {"book": book, "words": WORDS[book], "version": VERSION}
    if colour := COLOUR.get(VERSION):
        rating, problem = fetch(f"http://ratings:9080/ratings/{book}", request.handed_on)
        review["colour"] = colour
        review["stars"] = rating["stars"] if rating else None
        review["problem"] = problem
    return Reply(review)


if __name__ == "__main__":
    serve(9080, answer)
