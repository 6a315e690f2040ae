"""`churn keys ...`: who may use the service of this home."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from churn_assets.cli.terminal.console import HomeOption, err, print_json, say, settings_of

keys_app = typer.Typer(help="API keys of the service: who may use it, and for what.", no_args_is_help=True)


@keys_app.command("create", epilog="Example: [bold]churn keys create crm --scope predict --expires 90d[/bold]")
def keys_create(
    name: Annotated[str, typer.Argument(help="Who uses it.")],
    scope: Annotated[
        list[str], typer.Option(help="What it may do: predict, feedback, explain, view, release, admin; repeatable.")
    ],
    expires: Annotated[str | None, typer.Option(help="Lifetime, as 90d, 12h or 30m. Default: until revoked.")] = None,
    home: HomeOption = None,
) -> None:
    """Make a key and print it once. From the first key on the service of this home asks for one."""
    settings = settings_of(home)
    from churn_assets.access.audit import record_call
    from churn_assets.access.keys import ApiKey, KeyStore, parse_lifetime

    lifetime, now = None if expires is None else parse_lifetime(expires), datetime.now(UTC)

    def announce(key: ApiKey) -> None:
        facts = {"key": key.id, "name": name, "scopes": list(key.scopes), "expires": expires}
        record_call(settings.home, "keys create", now, **facts)

    key, token = KeyStore(settings.home).create(name, scope, lifetime, now, announce)
    typer.echo(token)  # alone on its stream, for scripts
    note = f"key {key.id} ({name}: {', '.join(key.scopes)}) is shown this once and kept as a hash; send it as"
    say(f"{note} 'Authorization: Bearer <key>'", err)


@keys_app.command("list", epilog="Example: [bold]churn keys list --json | jq '.[].id'[/bold]")
def keys_list(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False, home: HomeOption = None
) -> None:
    """List every key, the oldest first; no secrets."""
    settings = settings_of(home)
    from churn_assets.access.keys import KeyStore

    entries = [key.to_json(datetime.now(UTC)) for key in KeyStore(settings.home).all()]
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        until = f"until {entry['expires']}" if entry["expires"] else "does not expire"
        typer.echo(f"{entry['id']}  {entry['state']:7}  {entry['name']}: {', '.join(entry['scopes'])}; {until}")
    if not entries:
        is_asked = (settings.home / "keys.db").exists()
        typer.echo(
            f"no keys; the service asks for {'one, so that everybody is refused: make one' if is_asked else 'none'}"
        )


@keys_app.command("revoke", epilog="Example: [bold]churn keys revoke 4f2a9c81d3e6[/bold]")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, or the key itself.")],
    home: HomeOption = None,
) -> None:
    """Take a key back; a running service refuses it within a second. There is no way to undo it."""
    settings = settings_of(home)
    from churn_assets.access.audit import record_call
    from churn_assets.access.keys import KeyStore

    key_id = key_id.split("_")[1] if key_id.startswith("churn_") else key_id  # no message repeats a secret
    now = datetime.now(UTC)
    key = KeyStore(settings.home).revoke(
        key_id, now, lambda key: record_call(settings.home, "keys revoke", now, key=key.id, name=key.name)
    )
    typer.echo(f"key {key.id} ({key.name}) is revoked")
