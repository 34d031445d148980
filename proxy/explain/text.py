"""An explanation as lines for people.

Pure. `width` None is for a pipe: nothing is folded, and rule and sentence share a line, so that grep finds both. On a wide
terminal they stand side by side, on a narrow one the sentence stands below its rule.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from podnet.proxy.explain.types import EndpointState, Explanation, PortExplanation, Step, percent

SIDE_BY_SIDE_FROM = 110
_MAX_CONNECTIONS = 20
_MAX_RULE = 1000


def render_text(found: Explanation, width: int | None, others: Sequence[str] = ()) -> list[str]:
    """`others`: the nodes that could be asked as well."""
    title = f"Service {found.service} ({found.type}) on node {found.node}, proxy mode {found.mode}"
    lines = _fold(title, width, "", "  ")
    lines += _fold("; ".join(found.facts), width, "  ") if found.facts else []
    if others:
        lines += _fold(f"other nodes: --node {' | '.join(others)}", width, "  ", "    ")
    if found.why_none:
        lines += ["", *_fold(f"No rules: {found.why_none}", width, "")]
    for port in found.ports:
        lines += ["", *_port(port, found.node, width)]
    return lines


def _port(port: PortExplanation, node: str, width: int | None) -> Iterator[str]:
    name = f"{port.name}: " if port.name else ""
    places = [f"{address}:{port.port}" for address in port.addresses]
    places += [f"node port {port.node_port}"] if port.node_port else []
    yield from _fold(f"PORT {name}{port.protocol} {', '.join(places) or port.port}", width, "", "  ")
    for note in port.notes:
        yield from _fold(f"note: {note}", width, "  ")
    hook = chain = ""
    headed: set[str] = set()
    for step in port.steps:
        if step.hook != hook:
            hook, chain, headed = step.hook, "", set()
            yield f"  [{hook}]"
        if step.chain != chain:
            chain = step.chain
            again = " (continued)" if chain in headed else ""
            headed.add(chain)
            yield f"{_indent(step)}{'' if chain.startswith('@') else 'chain '}{chain}{again}"
        yield from _step(step, width)
    if port.endpoints:
        yield "  endpoints"
        yield from _table(_endpoint_rows(port), "    ", width)
    if port.connections or any("dnat" in step.rule.lower() for step in port.steps):
        yield from _connections(port, node, width)


def _indent(step: Step) -> str:
    return "  " * (step.depth + 2)


def _step(step: Step, width: int | None) -> Iterator[str]:
    """A rule and its sentence."""
    indent = _indent(step) + "  "
    text = _rule(step)
    if width is None:
        yield f"{indent}{text}  # {step.sentence}"
        return
    if width < SIDE_BY_SIDE_FROM:
        yield from _fold(text, width, indent, indent + "    ")
        yield from _fold(step.sentence, width, indent + "  # ", indent + "  # ")
        return
    left = width * 55 // 100
    rule = list(_fold(text, left, indent, indent + "    "))
    said = list(_fold(step.sentence, width - left - 4, "", ""))
    for number in range(max(len(rule), len(said))):
        before = rule[number] if number < len(rule) else ""
        after = said[number] if number < len(said) else ""
        yield f"{before.ljust(left)}  # {after}".rstrip() if after else before


def _rule(step: Step) -> str:
    """As the tools print it: iptables-save puts the counters first, nft has them inside."""
    counted = step.packets is not None and "counter packets" not in step.rule
    text = f"[{step.packets}:{step.bytes}] {step.rule}" if counted else step.rule
    more = len(text) - _MAX_RULE
    return f"{text[:_MAX_RULE]} ... ({more} characters more: -o json)" if more > 0 else text


def _fold(text: str, width: int | None, first: str, rest: str | None = None) -> list[str]:
    if width is None:
        return [first + text]
    later = first if rest is None else rest
    folded = textwrap.wrap(
        text, max(width, len(later) + 20), initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )
    return folded or [first]


def _endpoint_rows(port: PortExplanation) -> list[list[str]]:
    """Columns that say the same of all are left out."""
    has_inside = any(row.inside is not None for row in port.endpoints)
    has_outside = any(row.outside is not None for row in port.endpoints)
    has_opened = any(row.opened is not None for row in port.endpoints)
    head = ["ADDRESS", "POD", "NODE", "STATE"]
    head += ["SHARE"] if has_inside else []
    head += ["OUTSIDE"] if has_outside else []
    head += ["NOW"] if port.steps else []
    head += ["OPENED"] if has_opened else []
    rows = [head]
    for row in port.endpoints:
        cells = [f"{row.address}:{row.port}", row.pod or "-", _where(row), row.state]
        cells += [_share(row.inside)] if has_inside else []
        cells += [_share(row.outside)] if has_outside else []
        cells += [str(row.connections)] if port.steps else []
        cells += ["-" if row.opened is None else str(row.opened)] if has_opened else []
        rows.append(cells)
    return rows


def _where(row: EndpointState) -> str:
    return f"{row.node} (here)" if row.is_local else row.node or "-"


def _share(share: float | None) -> str:
    return "-" if not share else percent(share)


def _connections(port: PortExplanation, node: str, width: int | None) -> Iterator[str]:
    count = len(port.connections)
    tracked = f"{count or 'none'} tracked now (podnet conntrack node/{node})"
    said = f"connections: {port.opened} opened by these rules since they were loaded, {tracked}"
    yield from _fold(said, width, "  ", "    ")
    if not count:
        return
    rows = [["CLIENT", "SENT TO", "ANSWERED BY", "TRANSLATED", "STATE", "LEFT"]]
    known = {f"{row.address}:{row.port}" for row in port.endpoints}
    counted = any(connection.packets for connection in port.connections)
    if counted:
        rows[0] += ["PACKETS", "BYTES"]
    for connection in port.connections[:_MAX_CONNECTIONS]:
        stale = "" if not connection.endpoint or connection.endpoint in known else " (no endpoint any more)"
        cells = [
            connection.client,
            connection.sent_to,
            connection.answered_by + stale,
            connection.translated or "-",
            connection.state,
            f"{connection.timeout_s}s",
        ]
        rows.append([*cells, str(connection.packets), str(connection.bytes)] if counted else cells)
    yield from _table(rows, "    ", width)
    if count > _MAX_CONNECTIONS:
        yield f"    ... and {count - _MAX_CONNECTIONS} more"


def _table(rows: Sequence[Sequence[str]], indent: str, width: int | None) -> Iterator[str]:
    """Columns; where they do not fit the terminal, a paragraph for each row."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if width is not None and len(indent) + sum(widths) + 2 * (len(widths) - 1) > width:
        for row in rows[1:]:
            said = ", ".join(
                f"{head.lower()} {cell}" for head, cell in zip(rows[0][1:], row[1:], strict=True) if cell != "-"
            )
            yield from _fold(f"{row[0]}: {said}", width, indent, indent + "  ")
        return
    for row in rows:
        yield indent + "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
