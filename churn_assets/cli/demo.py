"""`churn demo`: the whole loop, with a service and a daemon, in a home of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.live import Live
from rich.spinner import Spinner

from churn_assets.cli.console import HomeOption, out, plain, settings_of

EXAMPLE = "Example: [bold]churn demo[/bold]"


def demo(home: HomeOption = None) -> None:
    """Drift, a broken pipeline and an equal challenger, met by the real service and daemon in five minutes."""
    settings = settings_of(home)
    from churn_assets.demo.scenes import Play, perform
    from churn_assets.demo.stage import Stage

    begun = time.monotonic()
    with Stage(settings, settings.home / "demo") as stage, Live(Spinner("dots"), console=out, transient=True) as live:

        def tell(words: str) -> None:
            live.console.print(f"[dim]{time.monotonic() - begun:5.0f} s[/dim]  {plain(words)}", soft_wrap=True)
            live.update(Spinner("dots", "waiting"))

        def count(words: str, sent: Iterable[int]) -> None:
            for number in sent:
                live.update(Spinner("dots", f"{number:,} {words}"))
            tell(f"sent {number:,} {words}")

        steady = perform(Play(stage, tell, count))
        versions = ", ".join(f"{asked:,} by {version}" for version, asked in steady.client.versions.items())
        tell(f"meanwhile a client asked {steady.client.asked:,} times without a failure: {versions}")
    out.print(
        plain(f"Look around in it: CHURN_HOME={stage.home} churn history, churn ui, churn status"), soft_wrap=True
    )
