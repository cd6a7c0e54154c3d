"""Readers: a steady, gentle load. Two requests a second, some of them by a reader called Ada."""

from __future__ import annotations

import itertools
import os
import time
import urllib.error
import urllib.request

SHOP = os.environ.get("SHOP", "http://storefront:8080/")
PAUSE = float(os.environ.get("PAUSE_SECONDS", "0.5"))


def main() -> None:
    """Visit the shop for ever; tell every twentieth result."""
    for visit in itertools.count(1):
        headers = {"user-agent": "bookshop-readers"} | ({"x-reader": "ada"} if visit % 5 == 0 else {})
        try:
            with urllib.request.urlopen(urllib.request.Request(SHOP, headers=headers), timeout=5) as response:
                result = str(response.status)
                response.read()
        except urllib.error.HTTPError as error:
            result = str(error.code)
        except OSError as error:
            result = str(error)
        if visit % 20 == 1 or result != "200":
            print(f"visit {visit}: {result}", flush=True)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
