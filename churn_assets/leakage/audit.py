"""The leakage audit: how much a model's headline depends on columns that may be consequences of churn.

docs/audit.md describes how each figure is computed and its sources. Limits are checked on training and validation
rows; the figures shown are of test rows, which are read for reporting only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from churn_assets.contract.edit import attest_command, exclude_command
from churn_assets.contract.model import Contract
from churn_assets.data.customers import TableOrigin, reported_rows
from churn_assets.evaluation.metrics import shortage
from churn_assets.features.encode import encode_table
from churn_assets.leakage.column_tests import companions, features_of
from churn_assets.leakage.ladder import AgeBand, Figure, Ladder, age_bands
from churn_assets.leakage.screening import SEED, Finding, Screening, SingleColumn, screen
from churn_assets.training.candidate import Parameters
from churn_assets.training.feature_table import TrainingData, as_of_of, feature_table, trained_contract, training_data
from churn_assets.training.select import TEST_PREFIXES
from churn_assets.training.split import newest_of

if TYPE_CHECKING:
    import pyarrow as pa

MOST_SUSPECTS = 8  # rungs of single suspects; more are hard to read
MOST_ALONE = 40  # columns that are fitted alone, those first that predict the label best by themselves
# A figure's fields by their names on a model's card.
_CARD_FIGURES = {"pr_auc": "pr_auc", "low": "pr_auc_low", "high": "pr_auc_high"}


class Rung(msgspec.Struct, frozen=True, omit_defaults=True, rename={"label": "words"}):
    """The recipe without the columns `left_out`."""

    label: str
    left_out: tuple[str, ...]
    random: Figure | None
    out_of_time: Figure | None = None

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by split, without those of too few customers."""
        return _known({"random": self.random, "out_of_time": self.out_of_time})


class LeftOut(msgspec.Struct, frozen=True):
    """A column that the model does not read: why, as a clause, '' if the contract alone says so; and the two commands,
    that put it back and that keep it out for good."""

    column: str
    why: str
    put_back: str
    keep_out: str


class Audit(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ladder of one table; its JSON form is the asset `leakage_audit` and the ladder beside a bundle. `recipe`
    describes what was fitted at each rung; `model` and `chosen` are the version and the name of the audited model, ''
    if the table was audited on its own.

    `left_out` are the columns that the model does not read, because nobody attests them or the contract excludes them;
    `left_out_sentences` say so with the commands that decide, and `complete` is the rung with them; empty and None if
    there are none. `suspects` and the rungs are of the model's columns. `shortage` says why there are no figures on the
    random split's test customers, '' if there are. `refitted` is the first rung by `recipe`, to compare the others
    with, None where they are alike.
    """

    recipe: str
    sentences: tuple[str, ...]
    rungs: tuple[Rung, ...]
    bands: tuple[AgeBand, ...]
    columns: dict[str, SingleColumn]
    findings: tuple[Finding, ...]
    suspects: tuple[str, ...]
    rows: int
    churners: int
    source: str
    model: str = ""
    chosen: str = ""
    left_out: tuple[LeftOut, ...] = ()
    left_out_sentences: tuple[str, ...] = ()
    complete: Rung | None = None
    shortage: str = ""
    refitted: Figure | None = None

    def shown(self, figure: Figure | None) -> str:
        """A figure on the random split's test customers as a text, or why there is none."""
        return str(figure) if figure is not None else self.shortage

    @property
    def unattested(self) -> tuple[Finding, ...]:
        """Findings about columns that nobody attests, whether the model reads them or not."""
        return tuple(finding for finding in self.findings if not finding.attested)

    @property
    def read(self) -> tuple[Finding, ...]:
        """Findings about columns that the model reads: unattested, they keep it out of the registry."""
        out = {column.column for column in self.left_out}
        return tuple(finding for finding in self.findings if finding.column not in out)

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """Every rung to show, the one with the columns that are left out first."""
        return self.rungs if self.complete is None else (self.complete, *self.rungs)


def audit(
    contract: Contract,
    customers: pa.Table,
    features: pa.Table,
    splits: pa.Table,
    chosen: str = "",
    params: Mapping[str, Parameters] | None = None,
    metrics: Mapping[str, float] | None = None,
    screening: Screening | None = None,
) -> Audit:
    """The audit of a validated table, of which a model reads `features`.

    `chosen` is the name of the chosen model, a recipe or several joined by ' + ' ('' if none is chosen; see
    `audited_recipe`); `params` are the parameters of each recipe by name. `metrics` are the chosen model's own
    (`Choice.metrics`): they are the first rung, which is refitted without them. `screening` is of the same table, and
    made here if it is not given. Raises TrainingError if a recipe cannot be fitted.
    """
    screening = screening or screen(contract, customers, splits)
    model = trained_contract(contract, features)
    out = tuple(column.name for column in model.columns if column.excluded)
    recipe, description = audited_recipe(chosen)
    everything = contract.whole
    data = training_data(everything, feature_table(everything, customers, splits) if out else features, splits)
    specs = data.views["random"].program.specs
    reads, own = features_of(everything, specs), features_of(everything, specs, own=True)
    without = {index for name in out for index in reads[name]}
    ladder = Ladder(data, recipe, (params or {}).get(recipe, {}), SEED, without)
    strongest = sorted(screening.columns, key=lambda name: -screening.columns[name].single_column_pr_auc_lift)
    single = dict(screening.columns)
    for name in (name for name in strongest[:MOST_ALONE] if own[name]):
        alone = _known({split: ladder.alone(split, own[name]) for split in data.views})
        single[name] = msgspec.structs.replace(single[name], alone=alone)
    over, test = {finding.column for finding in screening.findings}, data.churned[data.views["random"].split.test]
    suspects = tuple(c.name for c in model.scoring_columns if not c.excluded and (c.suspect or c.name in over))
    rungs = _rungs(model, ladder, reads, suspects or _most_important(single, out))
    if out:
        rungs = (msgspec.structs.replace(rungs[0], label=f"the model, without {', '.join(out)}"), *rungs[1:])
    refitted = rungs[0].random if metrics is not None else None
    if metrics is not None:
        description += _describe_refit(rungs[0])
        rungs = (_chosen_rung(rungs[0], metrics), *rungs[1:])
    bands = age_bands(
        contract, encode_table(contract, customers), as_of_of(customers), ladder, reported_rows(customers)
    )
    result = Audit(
        recipe=description,
        sentences=(),
        rungs=rungs,
        bands=bands,
        columns=single,
        findings=screening.findings,
        suspects=suspects,
        rows=customers.num_rows,
        churners=int(data.churned.sum()),
        source=TableOrigin.of(customers).source,
        left_out=_left_out(contract, screening.findings, out),
        complete=_complete(ladder, out),
        shortage=shortage(float(test.sum()), len(test)),
        refitted=refitted,
    )
    about = _describe_left_out(result)
    sentences = (_describe_headline(result, _newest(data, splits)), *about, *_describe_columns(contract, result))
    return msgspec.structs.replace(result, sentences=sentences, left_out_sentences=about)


def audit_source(contract: Contract, source: str, description: str = "") -> Audit:
    """Read, repair, validate and audit a table on its own, by boosted trees. Raises what any of these raises."""
    from churn_assets.data.readers.read import read_table
    from churn_assets.data.repairs.repairs import apply_repairs
    from churn_assets.data.validation.validate import validate

    raw = read_table(source, contract)
    repaired, _ = apply_repairs(raw, contract)
    validated = validate(contract, repaired, raw=raw, source=description or source)
    validated.report.stop_if_over_limit()
    return audit_table(contract, validated.customers)


def audit_table(contract: Contract, customers: pa.Table, splits: pa.Table | None = None) -> Audit:
    """The audit of a validated table on its own, by its `splits` if they are given."""
    from churn_assets.training.split import split_table

    splits = split_table(contract, customers) if splits is None else splits
    screening = screen(contract, customers, splits)
    features = feature_table(contract, customers, splits, screening.left_out)
    return audit(contract, customers, features, splits, screening=screening)


def audited_recipe(chosen: str) -> tuple[str, str]:
    """The recipe that is refitted at each rung, and its description. A ladder needs dozens of fits: a blend is
    represented by one of its boosted parts, and a network by boosted trees."""
    if chosen == "logistic":
        return "logistic", "logistic regression, as chosen"
    parts = chosen.split(" + ")
    name = next((name for name in ("boosted", "deep") if name in parts), "boosted")
    if chosen in ("", name):
        why = ", as chosen" if chosen else ""
    elif name in parts:
        why = f", the part of '{chosen}' that can be refitted quickly"
    else:
        why = f" in place of '{chosen}', which takes too long to refit at each rung"
    trees = "deep boosted trees" if name == "deep" else "boosted trees"
    return name, f"{trees}{why}, in fewer, larger steps than in training"


def _describe_left_out(audit: Audit) -> tuple[str, ...]:
    """What the model does not read and why, and what it would add with the commands that decide; none if there is
    nothing."""
    left_out, complete = audit.left_out, audit.complete
    if not left_out or complete is None:
        return ()
    accused = [column for column in left_out if column.why]
    names, single = _quoted_list([column.column for column in left_out]), len(left_out) == 1
    it, has = (("it", "it"), "is") if single else (("they", "them"), "are")
    if accused:
        reasons = "; ".join(f"'{column.column}' {column.why}" for column in accused[:3])
        known = "it is" if single else "they are"
        first = f"{names} {has} left out of the model: {reasons}, and nobody attests that {known} known before churn."
    else:
        first = f"{names} {has} excluded by the contract."
    shown = next(iter(accused), left_out[0])
    keep = f", or keep it out for good: `{shown.keep_out}`" if shown.why else ""
    gain = (
        f"What {it[0]} would add is not known, because there are {audit.shortage} to test with"
        if complete.random is None
        else f"With {it[1]} PR-AUC is {complete.random} on test rows, without {it[1]} {audit.rungs[0].random}"
    )
    return first, f"{gain}; put '{shown.column}' back: `{shown.put_back}`{keep}."


def _left_out(contract: Contract, findings: Sequence[Finding], names: Sequence[str]) -> tuple[LeftOut, ...]:
    reasons = {finding.column: finding.description for finding in reversed(findings)}
    return tuple(
        LeftOut(
            name,
            "" if contract.column(name).excluded else reasons.get(name, ""),
            attest_command(name, contract),
            exclude_command(name, contract),
        )
        for name in names
    )


def _complete(ladder: Ladder, out: Sequence[str]) -> Rung | None:
    if not out:
        return None
    return Rung(f"with {', '.join(out)}", (), **{split: ladder.complete(split) for split in ladder.data.views})


def _newest(data: TrainingData, splits: pa.Table) -> tuple[int, int] | None:
    """Churned customers and all among the newest, None without a cohort."""
    if "out_of_time" not in data.views:
        return newest_of(splits)
    label = data.churned[data.views["out_of_time"].split.test]
    return int(label.sum()), len(label)


def _describe_headline(audit: Audit, counts: tuple[int, int] | None) -> str:
    """The headline under weaker assumptions; `counts` are churned customers and all among the newest."""
    random, newest = audit.rungs[0].random, audit.rungs[0].out_of_time
    text = (
        f"How well customers drawn at random are ranked is not known, because there are {audit.shortage} to test with; "
        if random is None
        else f"On customers drawn at random the model reaches a PR-AUC of {random}; "
        f"1 is perfect, a random list reaches {random.base_rate:.3f}; "
    )
    if newest is not None:
        text += f"on the newest customers, trained on older ones, {newest}, a random list {newest.base_rate:.3f}"
    else:
        few = f"there are {shortage(*counts)} among them" if counts else "the table has no cohorts"
        text += f"performance on newer customers is not known, because {few}"
    return f"{text}{_describe_ages(audit.bands)}."


def _describe_ages(bands: Sequence[AgeBand]) -> str:
    by_age = {band.label: band.pr_auc for band in bands if band.pr_auc is not None}
    if len(by_age) < 2:
        return ""
    worst, best = min(by_age, key=by_age.__getitem__), max(by_age, key=by_age.__getitem__)
    return f"; by age it ranges from {by_age[worst]:.2f} ({worst}) to {by_age[best]:.2f} ({best})"


def _describe_columns(contract: Contract, audit: Audit) -> tuple[str, ...]:
    """The columns that the model's headline depends on, in a sentence; none if all of them are left out."""
    names = list(dict.fromkeys(finding.column for finding in audit.read))
    if not names:
        return () if audit.left_out else (_describe_most_important(audit.columns),)
    clauses = [f"'{name}' {_listed([f.description for f in audit.read if f.column == name])}" for name in names[:3]]
    more = f"; {len(names) - 3} more columns are over a limit" if len(names) > 3 else ""
    last = audit.rungs[-1]
    figure = f"{last.random.pr_auc:.3f}" if last.random else f"not known, because there are {audit.shortage}"
    remaining = f"{last.label} PR-AUC is {figure}"
    return (f"{'; '.join(clauses)}{more}; {remaining}, and {_describe_attestation(contract, names)}.",)


def _describe_most_important(columns: Mapping[str, SingleColumn]) -> str:
    text = "No column is over the contract's limits for possible consequences of churn"
    losses = {name: column.headline_loss_when_removed for name, column in columns.items()}
    most = max(losses, key=lambda name: losses[name], default="")
    if not most:
        return f"{text}."
    return f"{text}; '{most}' is the most important, with {losses[most]:.0%} of the model's PR-AUC lift."


def _describe_attestation(contract: Contract, names: Sequence[str]) -> str:
    unattested = [name for name in names if not contract.column(name).attested]
    single = len(unattested or names) == 1
    if unattested:
        return f"nobody attests that {_quoted_list(unattested)} {'is' if single else 'are'} known before churn"
    return f"only the contract's attestation says that {'it is' if single else 'they are'} known before churn"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else texts[0]


def _quoted_list(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names[:5]]
    return f"{', '.join(quoted)} and {len(names) - 5} more" if len(names) > 5 else _listed(quoted)


def _most_important(columns: Mapping[str, SingleColumn], out: Sequence[str]) -> tuple[str, ...]:
    """Without a suspect, the most important column shows how far the figure depends on a single one."""
    losses = {name: c.headline_loss_when_removed for name, c in columns.items() if name not in out}
    return (max(losses, key=lambda name: losses[name]),) if len(losses) > 1 else ()


def _rungs(
    contract: Contract, ladder: Ladder, reads: Mapping[str, Sequence[int]], suspects: Sequence[str]
) -> tuple[Rung, ...]:
    rungs = []
    for names, label in _left_out_sets(contract, suspects).items():
        left_out = sorted({index for name in names for index in reads[name]})
        rungs.append(Rung(label, names, **{split: ladder.test(split, left_out) for split in ladder.data.views}))
    return tuple(rungs)


def _known(figures: Mapping[str, Figure | None]) -> dict[str, Figure]:
    return {split: figure for split, figure in figures.items() if figure is not None}


def _chosen_rung(refitted: Rung, metrics: Mapping[str, float]) -> Rung:
    """The rung of the chosen model itself: the figures of its card, on the test rows of the refitted one."""
    figures = {
        split: msgspec.structs.replace(
            figure, **{name: metrics[f"{TEST_PREFIXES[split]}_{key}"] for name, key in _CARD_FIGURES.items()}
        )
        for split, figure in refitted.figures.items()
    }
    return msgspec.structs.replace(refitted, **figures)


def _describe_refit(refitted: Rung) -> str:
    """How far the refits are from the chosen model: a clause, to compare the rungs below the first with."""
    figures = ", ".join(f"{split.replace('_', ' ')} {figure.pr_auc:.3f}" for split, figure in refitted.figures.items())
    reached = f", refitted in this way it reaches {figures}" if figures else ""
    return f"; the first rung is the chosen model itself{reached}"


def _left_out_sets(contract: Contract, suspects: Sequence[str]) -> dict[tuple[str, ...], str]:
    """The columns that each rung leaves out, and its label."""
    sets: dict[tuple[str, ...], str] = {(): "everything"}
    for name in suspects[:MOST_SUSPECTS]:
        sets.setdefault((name,), f"without {name}")
    if len(suspects) > 1:
        sets.setdefault(tuple(suspects), f"without {', '.join(suspects)}")
    related = [c for name in suspects for c in companions(contract, name) if c not in suspects]
    wider = (*suspects, *dict.fromkeys(related))
    if related:
        sets.setdefault(wider, f"without {', '.join(wider)}")
    return sets
