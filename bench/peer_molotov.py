"""What molotov runs in the comparison: one GET after another. Not for import by us."""

import os
from typing import Any

from molotov import scenario  # type: ignore[import-not-found]

URL = os.environ["BENCH_URL"]


@scenario(weight=1)  # type: ignore[untyped-decorator]
async def get(session: Any) -> None:
    """One request, its body read."""
    async with session.get(URL) as answer:
        await answer.read()
