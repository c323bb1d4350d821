"""The table of roles: one in code, the same in the docs; and objects are fetched by its rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from projects.permissions import ACTIONS_OF, Action, Role

ROOT = Path(__file__).resolve().parents[2]
ORDER = (Role.OWNER, Role.MANAGER, Role.OPERATOR, Role.VIEWER)


def documented() -> dict[str, list[bool]]:
    """By action: whether owner, manager, operator, viewer may."""
    text = (ROOT / "docs" / "permissions.md").read_text()
    rows = re.findall(r"^\| `([a-z:]+)` \|[^|]*\|(.*)\|$", text, re.MULTILINE)
    return {name: [cell.strip() == "yes" for cell in cells.split("|")] for name, cells in rows}


def test_the_docs_show_the_table_in_code() -> None:
    code = {one.value: [one in ACTIONS_OF[role] for role in ORDER] for one in Action}
    assert documented() == code


def test_a_higher_role_may_more() -> None:
    owner, manager, operator, viewer = (ACTIONS_OF[role] for role in ORDER)
    assert viewer < operator < manager < owner == set(Action)


# --- objects are fetched through `for_user` ---

# A query is bound to what the user may see by `for_user`, or by an object that was fetched so.
SAFE_METHODS = {"for_user", "ever_for_user", "none", "held_by"}
BINDING = {
    "project",
    "project_id",
    "template",
    "template_id",
    "runner",
    "queue__in",
    "access_key__project",
    "runner__project",
    "memberships__project",
}
# Where a row is read again by the number of an object at hand, or for who is signed in.
BY_NUMBER_AT_HAND = {
    ("forge/pages/stream.py", "_look"),  # after _may_watch, for the number that was checked
    ("forge/pages/templates.py", "_last_tasks"),  # numbers from a query of the project's
    ("forge/pages/activity.py", "_rows"),  # numbers from queries of what the user may see
    ("forge/pages/activity.py", "_latest_failures"),  # the same
    ("forge/pages/activity.py", "_failed_lately"),  # projects of tasks that the user may see
    ("forge/pages/finding.py", "_latest_of"),  # of templates that the user may see
    ("forge/pages/fleet.py", "rows_among"),  # runners at hand
    ("forge/pages/fleet.py", "shown"),  # of rows that were made from runners at hand
    ("forge/pages/known_browsers.py", "mark_of"),  # whose name is typed into the sign-in
    ("forge/pages/sign_in.py", "_record_failure"),  # whose password was wrong, for the audit log
    ("forge/pages/task_search.py", "_people"),  # who has started a task of the project
    ("forge/pages/task_search.py", "_read"),  # numbers from queries of the project's tasks
    ("forge/pages/versions.py", "mark_of"),  # of a row at hand
    ("forge/pages/task_filters.py", "_people"),  # members, and who has run a task of the project
}


def chains(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Each query of a model, from `objects` on to its last call, with the function it stands in."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        parents = {
            child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and node.attr in ("objects", "_default_manager"):
                top: ast.AST = node
                while isinstance(parents.get(top), ast.Attribute) or (
                    isinstance(above := parents.get(top), ast.Call) and above.func is top
                ):
                    top = parents[top]
                assert isinstance(top, ast.expr)
                yield function.name, top


def is_bound(query: ast.expr) -> bool:
    methods: set[str] = set()
    keywords: list[ast.keyword] = []
    node: ast.AST = query
    while isinstance(node, ast.Call | ast.Attribute):
        if isinstance(node, ast.Call):
            keywords += node.keywords
            node = node.func
        else:
            methods.add(node.attr)
            node = node.value
    return bool(
        methods & SAFE_METHODS
        or {one.arg for one in keywords} & BINDING
        or any(one.arg == "pk" and _is_at_hand(one.value) for one in keywords)
    )


def _is_at_hand(value: ast.expr) -> bool:
    """`row.pk` or `self._user.pk`, but not a number from an address or a form."""
    return (
        isinstance(value, ast.Attribute) and value.attr == "pk" and "request" not in ast.dump(value)
    )


ROOMS = ("pages", "api", "lists")
VIEWS = sorted(path for room in ROOMS for path in (ROOT / "forge" / room).glob("*.py"))


@pytest.mark.parametrize("path", VIEWS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_views_fetch_what_the_user_may_see(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    loose = [
        f"{name}, {function}: {ast.unparse(query)[:120]}"
        for function, query in chains(ast.parse(path.read_text()))
        if not is_bound(query) and (name, function) not in BY_NUMBER_AT_HAND
    ]
    assert not loose


def test_a_view_that_fetches_otherwise_would_be_found() -> None:
    source = "def view(request, pk):\n    return get_object_or_404(Task.objects.filter(pk=pk))\n"
    ((_, query),) = chains(ast.parse(source))
    assert not is_bound(query)
