"""Changes to a contract's file, for `churn attest` and `churn exclude`: one value, every other byte as it was."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from shlex import quote
from typing import Any

from churn_assets.contract.load import load_contract, parse_contract
from churn_assets.contract.model import Column, Contract
from churn_assets.errors import ContractError, did_you_mean
from churn_assets.storage.files import replacing

_HEADER = re.compile(r"""^[ \t]*\[\[[ \t]*["']?columns["']?[ \t]*\]\][^\n]*\n?""", re.MULTILINE)
_NEXT_TABLE = re.compile(r"^[ \t]*\[|\Z", re.MULTILINE)
_CONTENT = re.compile(r"^[ \t]*[^\s#][^\n]*\n?", re.MULTILINE)
_VALUE = r'''(true|false|"""(?:[^\\]|\\.)*?"""+|\'\'\'.*?\'\'\'+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')'''


def attest(path: Path, name: str, by: str, why: str, today: date) -> tuple[Contract, Contract]:
    """Write who attests, and why, that a column is known before churn, so that models read it; the contract before and
    after. One object if nothing changed. Raises ContractError for a column that is not known or used, and an empty
    text."""
    contract = load_contract(path)
    column = _used_column(contract, name)
    if not (by.strip() and why.strip()):
        raise ContractError(f"--by or --why is empty; expected who attests '{name}', and why it is known before churn")
    changes: dict[str, str | bool] = {"excluded": False} if column.excluded else {}
    if not re.fullmatch(rf"{re.escape(by)}(, \d{{4}}-\d\d-\d\d)?: {re.escape(why)}", column.attested):
        changes["attested"] = f"{by}, {today}: {why}"
    return contract, _write(contract, path, name, changes)


def exclude(path: Path, name: str) -> tuple[Contract, Contract]:
    """Keep a column, and the features that read it, out of the model; returns and raises as `attest`, and raises
    ContractError if no model input would remain."""
    contract = load_contract(path)
    return contract, _write(contract, path, name, {} if _used_column(contract, name).excluded else {"excluded": True})


def attest_command(column: str, contract: Contract) -> str:
    """The command that lets models read a column."""
    return f"churn attest {_arguments(column, contract)} --by NAME --why TEXT"


def exclude_command(column: str, contract: Contract) -> str:
    """The command that keeps a column out of the model."""
    return f"churn exclude {_arguments(column, contract)}"


def remedy(column: str, contract: Contract) -> str:
    """The two commands for a column that nobody attests."""
    keep_out = exclude_command(column, contract)
    return f"`{attest_command(column, contract)}`, or keep it out of the model: `{keep_out}`"


def _arguments(column: str, contract: Contract) -> str:
    return f"{quote(column)} --contract {quote(str(contract.path or 'FILE'))}"


def _used_column(contract: Contract, name: str) -> Column:
    column, usable = contract.by_name.get(name), [c.name for c in contract.logged_columns]
    if column in contract.logged_columns:
        return contract.column(name)
    role = f"column '{name}' has role '{column.role}'; " if column else ""
    problem = role or f"there is no column '{name}'; {did_you_mean(name, usable)}"
    raise ContractError(f"{contract.where}: {problem}expected one of: {', '.join(usable)}; name one of them")


def _write(contract: Contract, path: Path, name: str, changes: Mapping[str, str | bool]) -> Contract:
    """Set keys of a column in the file; the contract that the new file holds, which is checked before it is there."""
    if not changes:
        return contract
    try:
        content = path.read_bytes()
        bom = content[: 3 * content.startswith(b"\xef\xbb\xbf")]
        text = content[len(bom) :].decode()
        for key, value in changes.items():
            changed = _edited(text, list(contract.by_name).index(name), key, value)
            if changed is None:
                raise ContractError(
                    f"{path}: no edit changes column '{name}' alone; write {key} = {toml(value)} for it yourself"
                )
            text = changed
        edited = parse_contract(text, str(path), path)
        with replacing(path.resolve(), path.stat().st_mode & 0o7777) as temporary:
            temporary.write_bytes(bom + text.encode())
    except OSError as error:
        raise ContractError(f"{path} cannot be written ({error.strerror}), expected one that can; copy it") from error
    return edited


def _edited(text: str, index: int, key: str, value: str | bool) -> str | None:
    """`text` with `key = value` in the column of this index, or None: no edit gave that change and no other."""
    with suppress(tomllib.TOMLDecodeError):  # old line ends
        wanted = tomllib.loads(text)
        wanted["columns"][index][key] = value
        candidates = _candidates(text, index, key, toml(value))
        return next((candidate for candidate in candidates if _holds(candidate, wanted)), None)
    return None


def _holds(text: str, wanted: dict[str, Any]) -> bool:
    with suppress(tomllib.TOMLDecodeError):
        return tomllib.loads(text) == wanted
    return False


def _candidates(text: str, index: int, key: str, value: str) -> Iterator[str]:
    """The likely edits first; what looks like a table or a key may also lie in a text of several lines."""
    newline = "\r\n" if "\r\n" in text else "\n"
    for header in list(_HEADER.finditer(text))[index:]:
        start = header.end()
        end = next(_NEXT_TABLE.finditer(text, start)).start()
        present = re.compile(rf"""^[ \t]*["']?{key}["']?[ \t]*=[ \t]*{_VALUE}""", re.MULTILINE | re.DOTALL)
        for match in present.finditer(text, start, end):
            yield text[: match.start(1)] + value + text[match.end(1) :]
        last = max((line.end() for line in _CONTENT.finditer(text, start, end)), default=start)
        for place in (last, start):
            gap = "" if text[place - 1] == "\n" else newline
            yield f"{text[:place]}{gap}{key} = {value}{newline}{text[place:]}"


def toml(value: object) -> str:
    """One TOML value on one line (texts, numbers, booleans, lists of them)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable() or character == " ":
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
