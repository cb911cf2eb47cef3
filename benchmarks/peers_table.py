"""The tables of ``docs/explanation/peers.md``, made of measured results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

K = 10


@dataclass(frozen=True)
class Work:
    """One column: an act of ``adapters/workload.py``, its name, and what its figure counts."""

    act: str
    title: str
    unit: str

    @property
    def slower_is_larger(self) -> bool:
        return self.unit == "ms"


WORKS = (
    Work("add", "add one", "ms"),
    Work("bulk", "bulk add", "/s"),
    Work("add_async", "concurrent adds", "/s"),
    Work("get", "get by id", "ms"),
    Work("search", f"search, k = {K}", "ms"),
    Work("search_in", "search one agent of ten", "ms"),
    Work("append", "append a message", "ms"),
    Work("last", "last 50 messages", "ms"),
)


def ratio(work: Work, ours: dict[str, Any], peer: dict[str, Any]) -> float | None:
    """Our time over the peer's for the same work: below 1 we are faster."""
    mine, other = (rows.get(work.act, {}).get("value") for rows in (ours, peer))
    if mine is None or other is None:
        return None
    return mine / other if work.slower_is_larger else other / mine


def table(measured: dict[str, Any]) -> str:
    """Markdown: a row for each product, a column for each work, the ratio first."""
    peers = measured["peers"]
    ours = peers["ours"]["rows"]
    lines = [
        "| | " + " | ".join(work.title for work in WORKS) + " |",
        "|---" * (len(WORKS) + 1) + "|",
    ]
    for name, peer in peers.items():
        rows = peer["rows"]
        cells = [_cell(work, rows, None if name == "ours" else ours) for work in WORKS]
        if not rows:
            cells = [f"not measured: {peer.get('error')}", *[""] * (len(WORKS) - 1)]
        lines.append(f"| {peer['label']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(work: Work, rows: dict[str, Any], ours: dict[str, Any] | None) -> str:
    row = rows.get(work.act)
    if row is None:
        return ""
    if "error" in row:
        return "failed"
    figure = _figure(row["value"], work.unit)
    if "recall" in row:
        figure += f", recall {_share(row['recall'])}"
    against = None if ours is None else ratio(work, ours, rows)
    return figure if against is None else f"**{_times(against)}** ({figure})"


def _times(ratio: float) -> str:
    """Two digits, and never an exponent."""
    return f"{ratio:.0f} ×" if ratio >= 10 else f"{ratio:.2g} ×"


def _figure(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value:,.0f} /s"
    return f"{value:.3f} ms" if value < 1 else f"{value:.1f} ms"


def _share(value: float) -> str:
    return "1" if value > 0.9995 else f"{value:.3f}".lstrip("0")


def behind(measured: dict[str, Any]) -> str:
    """Where a peer is faster, work by work, the worst first."""
    peers = measured["peers"]
    ours = peers["ours"]["rows"]
    lines = []
    for work in WORKS:
        ahead = [
            (against, peer["label"])
            for name, peer in peers.items()
            if name != "ours"
            and (against := ratio(work, ours, peer["rows"])) is not None
            and against > 1
        ]
        if ahead:
            named = ", ".join(
                f"{label} {_times(against)}" for against, label in sorted(ahead)[::-1]
            )
            lines.append(f"- **{work.title}**: {named}")
    return "\n".join(lines) or "Nowhere, in this run."


def conditions(measured: dict[str, Any]) -> str:
    """What each product was, how durable its writes were, and what went wrong."""
    lines = ["| | versions | an acknowledged write | notes |", "|---|---|---|---|"]
    for peer in measured["peers"].values():
        versions = ", ".join(
            f"{name} {number}" for name, number in peer.get("packages", {}).items()
        )
        notes = [*peer.get("notes", [])]
        notes += [
            f"{act} failed: {row['error']}" for act, row in peer["rows"].items() if "error" in row
        ]
        if "error" in peer:
            notes.append(peer["error"])
        told = "; ".join(notes).replace("|", "\\|")
        lines.append(f"| {peer['label']} | {versions} | {peer.get('durability', '')} | {told} |")
    return "\n".join(lines)


def setting(measured: dict[str, Any], source: str) -> str:
    """The run in one sentence."""
    machine, counts = measured["machine"], measured["counts"]
    syncs = [ms for p in measured["peers"].values() for r in p["rounds"] for ms in r["sync_ms"]]
    return (
        f"{counts['stored']:,} items × {measured['dimensions']} dimensions, "
        f"{measured['agents']} agents, medians of {measured['rounds']} rounds on "
        f"{machine['cpu']}, Python {machine['python']}, {machine['system']}; seed "
        f"{measured['seed']}, commit `{measured['commit']}`; writing 4 KiB through to the "
        f"disk took {min(syncs):.2g}–{max(syncs):.2g} ms during the run. Raw rounds: "
        f"`benchmarks/results/{source}`."
    )


def update(page: Path, measured: dict[str, Any], *, source: str) -> None:
    """Put everything measured between the marks of the page."""
    parts = {
        "setting": setting(measured, source),
        "table": table(measured),
        "behind": behind(measured),
        "conditions": conditions(measured),
    }
    text = page.read_text("utf-8")
    for name, part in parts.items():
        start, end = f"<!-- {name}: generated -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise SystemExit(f"{page.name} has no marks for {name}.")
        text = f"{before}{start}{part}\n{end}{after}"
    page.write_text(text, "utf-8")
