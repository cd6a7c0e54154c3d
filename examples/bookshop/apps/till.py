"""The till, plain TCP, and it speaks first: a greeting, then a line for a line.

`TOTAL` tells what was sold today, `SELL <book>` sells one, `BYE` ends.
"""

from __future__ import annotations

import asyncio
import os

sold = 41


async def customer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection."""
    global sold
    writer.write(f"bookshop till {os.environ.get('VERSION', 'v1')} ready\n".encode())
    await writer.drain()
    while line := (await reader.readline()).decode(errors="replace").strip().upper():
        if line == "BYE":
            break
        if line.startswith("SELL "):
            sold += 1
        known = line == "TOTAL" or line.startswith("SELL ")
        writer.write(f"sold {sold}\n".encode() if known else b"say TOTAL, SELL <book> or BYE\n")
        await writer.drain()
    writer.close()


async def main() -> None:
    """Serve on port 4000."""
    server = await asyncio.start_server(customer, "0.0.0.0", 4000)
    print("serving on port 4000", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
