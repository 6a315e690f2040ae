"""The tables of the ledger."""

# The two partial indexes are the rules "one retraining in flight" and "one move at a time". Some columns have older
# names than the fields they hold: `words` is a message, `situation` the inputs of a decision.
SCHEMA = """
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY, decided_at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('nothing', 'investigate_data', 'retrain', 'wait')),
    words TEXT NOT NULL, "trigger" TEXT NOT NULL, occasion TEXT NOT NULL, champion TEXT NOT NULL,
    "by" TEXT NOT NULL, why TEXT NOT NULL, situation TEXT NOT NULL
) STRICT;
CREATE TABLE requests (
    key TEXT PRIMARY KEY, decision INTEGER NOT NULL REFERENCES decisions (number),
    "trigger" TEXT NOT NULL, occasion TEXT NOT NULL, champion TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt BETWEEN 1 AND 3),
    status TEXT NOT NULL CHECK (status IN ('open', 'started', 'failed', 'finished', 'abandoned')),
    run_id TEXT, outcome TEXT NOT NULL, opened_at TEXT NOT NULL, ended_at TEXT,
    UNIQUE ("trigger", occasion, champion, attempt)
) STRICT;
CREATE UNIQUE INDEX one_request_in_flight ON requests ((1)) WHERE status IN ('open', 'started');
CREATE TABLE challengers (
    number INTEGER PRIMARY KEY, version TEXT NOT NULL, bundle TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
    registered_version INTEGER, request TEXT REFERENCES requests (key),
    status TEXT NOT NULL CHECK (
        status IN ('waiting_gate', 'refused', 'waiting_approval', 'approved', 'rejected', 'promoted')),
    attempt INTEGER NOT NULL, words TEXT NOT NULL, verdict TEXT, approved_by TEXT NOT NULL,
    added_at TEXT NOT NULL, changed_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_live_challenger_a_version ON challengers (version)
    WHERE status IN ('waiting_gate', 'waiting_approval', 'approved');
CREATE TABLE approvals (
    number INTEGER PRIMARY KEY, challenger INTEGER NOT NULL REFERENCES challengers (number),
    version TEXT NOT NULL, approved INTEGER NOT NULL, "by" TEXT NOT NULL, why TEXT NOT NULL,
    bundle_sha256 TEXT NOT NULL, at TEXT NOT NULL
) STRICT;
CREATE TABLE moves (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('first', 'promotion', 'rollback')),
    "before" TEXT, "to" TEXT NOT NULL, champion TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
    "by" TEXT NOT NULL, why TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('intended', 'done', 'abandoned')),
    intended_at TEXT NOT NULL, ended_at TEXT
) STRICT;
CREATE UNIQUE INDEX one_move_at_a_time ON moves ((1)) WHERE status = 'intended';
"""
POLICIES = """
CREATE TABLE policies (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (
        kind IN ('shadow', 'canary', 'ab', 'advance', 'promote', 'rollback', 'end', 'champion')),
    "before" TEXT, "after" TEXT NOT NULL, "by" TEXT NOT NULL, why TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (
        outcome IN ('', 'promoted', 'rolled_back', 'inconclusive', 'replaced', 'champion_moved')),
    status TEXT NOT NULL CHECK (status IN ('intended', 'done', 'abandoned')),
    intended_at TEXT NOT NULL, ended_at TEXT, numbers TEXT, decides TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_policy_at_a_time ON policies ((1)) WHERE status = 'intended';
"""
