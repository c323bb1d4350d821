"""axe-core on a page: what would stop somebody who sees it badly, or not at all."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

# What axe calls moderate or minor is shown by its own extension, and judged by eye.
GRAVE = ("serious", "critical")
_SCRIPT = """async (impacts) => {
  const found = await axe.run(document, {
    resultTypes: ["violations"],
    // For style sheets that import others axe adds styles of its own, which the policy forbids.
    preload: !location.pathname.startsWith("/admin/"),
  });
  return found.violations.filter((rule) => impacts.includes(rule.impact)).map((rule) => [
    rule.id, rule.help,
    rule.nodes.map((node) => [node.target.flat().join(" "), node.failureSummary]),
  ]);
}"""


def findings(page: Any) -> list[str]:
    """The serious and critical findings, one text each; the page stays as it is."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found = []
    for rule, meaning, nodes in page.evaluate(_SCRIPT, list(GRAVE)):
        places = "; ".join(f"{target} ({_short(why)})" for target, why in nodes[:4])
        more = f" and {len(nodes) - 4} more" if len(nodes) > 4 else ""
        found.append(f"{rule}: {meaning}: {places}{more}")
    return found


def _short(why: str) -> str:
    """The last line of axe's explanation, which holds the figures."""
    return why.strip().splitlines()[-1].strip()
