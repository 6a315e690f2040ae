"""A process that may open no more files says so, and advises nobody to remove what is sound."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys

from churn_assets.access.keys import KeyStore
from churn_assets_tests.serving.client import ROOT, home_with_champion

CODE = """
import json, os, resource, sys
from pathlib import Path
from churn_assets.access.keys import KeyStore
from churn_assets.errors import ChurnError
from churn_assets.promotion.pointer import champion_bundle, read_champion
from churn_assets.serving.routing.models import find_bundle, load_served_model
from churn_assets.serving.routing.watcher import ModelWatcher

home = Path(sys.argv[1])
bundle = champion_bundle(home)
load_served_model(bundle)
KeyStore(home).all()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
files = []
try:
    while True:
        files.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
watcher = ModelWatcher(lambda: find_bundle({"CHURN_HOME": str(home)}))
messages = {}
for name, act in {
    "pointer": lambda: read_champion(home), "bundle": lambda: load_served_model(bundle), "keys": KeyStore(home).all,
}.items():
    try:
        act()
    except ChurnError as error:
        messages[name] = str(error)
watcher.check()
messages["watcher"] = watcher.missing
for file in files:
    os.close(file)
watcher.check()
print(json.dumps([messages, watcher.current is not None]))
"""


def test_a_process_without_files_left_advises_to_remove_nothing_and_recovers(tmp_path):
    home = home_with_champion(tmp_path)
    KeyStore(home).create("test", ["view"], None, dt.datetime.now(dt.UTC))
    command = [sys.executable, "-c", CODE, str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), timeout=60)
    assert done.returncode == 0, done.stderr
    messages, is_loaded = json.loads(done.stdout)
    assert messages.keys() == {"pointer", "bundle", "keys", "watcher"}
    for name, message in messages.items():
        assert not [word for word in ("remove", "move it away", "make new keys", "again from") if word in message], name
        assert len(message.splitlines()) == 1
    assert "Too many open files" in messages["pointer"]
    assert is_loaded, "as soon as there are files again"
