"""Draw the asset graph into README.md, between its two marks: `python docs/draw_graph.py`."""

from pathlib import Path

BEGIN, END = "<!-- graph: begin -->", "<!-- graph: end -->"
README = Path(__file__).resolve().parent.parent / "README.md"


def mermaid() -> str:
    """The graph of the definitions as a Mermaid block, one box a group."""
    from churn_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.toposorted_asset_keys]
    lines = ["```mermaid", "flowchart LR"]
    for group in dict.fromkeys(node.group_name for node in nodes):
        members = sorted(node.key.to_user_string() for node in nodes if node.group_name == group)
        lines += [f"  subgraph {group}", *(f"    {name}" for name in members), "  end"]
    edges = {(p.to_user_string(), node.key.to_user_string()) for node in nodes for p in node.parent_keys}
    lines += [f"  {one} --> {two}" for one, two in sorted(_told_once(edges))]
    return "\n".join([*lines, "```"])


def _told_once(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges that no longer path tells already."""

    def reachable(one: str, two: str) -> bool:
        return any(a == one and (b == two or reachable(b, two)) for a, b in edges)

    return {(one, two) for one, two in edges if not any(a == one and b != two and reachable(b, two) for a, b in edges)}


def drawn(text: str) -> str:
    """`text` with the graph between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{mermaid()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(drawn(README.read_text(encoding="utf-8")), encoding="utf-8")
