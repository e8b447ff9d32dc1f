"""Which run-time names a step may use, and what a function of ``fn.`` takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from .problems import NOT_YET, nearest
from .template import FIXED_NAMES, LATER_NAMES, NAMESPACES, PLAN_NAME, WORKER_NAMES, Ref

FUNCTIONS = {"fn.uuid": 0, "fn.now": 0, "fn.random_int": 2, "fn.base64": 1}
"""The functions, and how many arguments each takes."""


@dataclass(frozen=True)
class Names:
    """``columns`` are those of the step's data: None where they are not known, empty where there is no data."""

    columns: frozenset[str] | None = field(default_factory=frozenset)
    variables: frozenset[str] = field(default_factory=frozenset)

    def wrong(self, ref: Ref) -> str | None:
        """What is wrong with a name in a text, or None."""
        space, dot, rest = ref.partition(".")
        if ref.args is not None or space == "fn":
            return _wrong_call(ref)
        if not dot:
            return _wrong_bare(ref)
        if space == "row":
            return self._wrong_row(rest)
        if space == "var":
            if rest in self.variables:
                return None
            hint = nearest(rest, self.variables) if self.variables else " (the step extracts nothing)"
            return f"${{var.{rest}}}: no request extracts it{hint}"
        if space == "secret":
            return None if PLAN_NAME.fullmatch(rest) else f"${{{ref}}}: not the name of a secret"
        if ref in FIXED_NAMES:
            return None
        return f"unknown name ${{{ref}}}{nearest(ref, (*FIXED_NAMES, *(f'{name}.' for name in NAMESPACES)))}"

    def _wrong_row(self, column: str) -> str | None:
        if self.columns is None or column in self.columns:
            return None
        if not self.columns:
            return f"${{row.{column}}}: the step has no data"
        return f"${{row.{column}}}: the data has no such column{nearest(column, self.columns)}"


def _wrong_bare(ref: Ref) -> str | None:
    if ref in WORKER_NAMES:
        return None
    if ref in LATER_NAMES:
        return f"${{{ref}}}: {NOT_YET}"
    return f"not a name: ${{{ref[:40]}}} (write '$${{' where the target should see it)"


def _wrong_call(ref: Ref) -> str | None:
    wanted = FUNCTIONS.get(ref)
    if wanted is None:
        return f"unknown function ${{{ref[:40]}}}{nearest(ref, FUNCTIONS)}"
    if ref.args is None or len(ref.args) != wanted:
        return f"{ref}() takes {wanted or 'no'} argument{'' if wanted == 1 else 's'}"
    if ref == "fn.random_int":
        low, high = ref.args
        if not isinstance(low, int) or not isinstance(high, int) or low > high:
            return "fn.random_int(LOW, HIGH) takes two whole numbers, the lower one first"
    return None
