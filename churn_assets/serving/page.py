"""GET / : one page that says what this is and tries one customer. Nothing is fetched from elsewhere."""

from __future__ import annotations

import html
import json

from churn_assets.contract.model import Column, Kind, Role
from churn_assets.serving.model import Served
from churn_assets.serving.typical import typical

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --accent: #2a6fdb; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
form { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .8rem; }
label { display: block; font-size: .9rem; } label small { display: block; opacity: .75; }
input, select { width: 100%; box-sizing: border-box; font: inherit; padding: .3rem; border: 1px solid var(--line); }
button { font: inherit; padding: .5rem 1.2rem; background: var(--accent); color: #fff; border: 0; cursor: pointer; }
pre { border: 1px solid var(--line); padding: .8rem; overflow: auto; white-space: pre-wrap; }
nav a { margin-right: 1rem; }
"""
_SCRIPT = """
const form = document.querySelector('form'), out = document.querySelector('#answer');
document.querySelector('#url').textContent = new URL('./predict', location.href).href;
form.addEventListener('submit', async event => {
  event.preventDefault();
  const customer = {};
  for (const field of form.querySelectorAll('[name]')) {
    const text = field.value.trim(), kind = field.dataset.kind;
    if (text === '' && field.dataset.optional) {
      if (field.dataset.optional === 'null') customer[field.name] = null;
      continue;
    }
    customer[field.name] = kind === 'number' || kind === 'integer' ? (text === '' ? null : Number(text))
      : kind === 'boolean' ? text === 'true' : text;
  }
  out.textContent = '...';
  try {
    const reply = await fetch('./predict', {method: 'POST', headers: {'Content-Type': 'application/json'},
      body: JSON.stringify(customer)});
    out.textContent = reply.status + '\\n' + JSON.stringify(await reply.json(), null, 2);
  } catch (error) { out.textContent = String(error); }
});
"""
# Swagger's files come with BentoML; its own page around them would load a tag manager from the network.
SWAGGER = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>churn: every route</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css"></head><body><div id="ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "./docs.json", dom_id: "#ui", validatorUrl: null});</script></body></html>"""
_LINKS = (("./docs", "try every route"), ("./docs.json", "OpenAPI"), ("./model", "the model"), ("./metrics", "metrics"))


def page(served: Served | None, missing: str) -> bytes:
    """The page as HTML; without a model it says how to make one."""
    links = " ".join(f'<a href="{to}">{words}</a>' for to, words in _LINKS)
    if served is None:
        title, body = (
            "churn",
            f"<p>There is no model yet. Make one with <code>make run</code>.</p><p>{_safe(missing)}</p>",
        )
    else:
        title, body = _safe(served.contract.title), _about(served) + _form(served)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<nav>{links}</nav>{body}</body></html>"
    )
    return text.encode()


def _about(served: Served) -> str:
    metrics, scorer = served.card.get("metrics", {}), served.scorer
    figure = metrics.get("test_pr_auc")
    said = f" PR-AUC on test customers {figure:.3f}." if isinstance(figure, float) else ""
    made = " It has learnt from made-up customers." if served.provenance.get("generated") else ""
    return (
        f"<p>The probability that a customer is lost, by model <code>{_safe(scorer.version)}</code> "
        f"({_safe(scorer.model.kind)}).{said}{made} A customer counts as lost from {scorer.thresholds.value:.3f}.</p>"
    )


def _form(served: Served) -> str:
    contract, values = served.contract, typical(served)
    columns = (contract.key, *contract.scoring_columns)
    fields = "".join(_field(column, values[column.name]) for column in columns)
    as_of = "<label>as_of<small>day of these values; empty: today</small>"
    as_of += f'<input name="as_of" data-optional="left out" value="{_safe(str(values.get("as_of", "")))}"></label>'
    told = json.dumps(values).replace("'", "\\u0027")  # it stands between quotes of the shell
    curl = f"curl -H 'Content-Type: application/json' -d '{told}' "
    return (
        f"<h2>One customer</h2><form>{fields}{as_of}<div><button>Score</button></div></form>"
        '<pre id="answer">The answer comes here.</pre>'
        f'<h2>By hand</h2><pre>{_safe(curl)}<span id="url">http://localhost:3000/predict</span></pre>'
        f"<script>{_SCRIPT}</script>"
    )


def _field(column: Column, value: object) -> str:
    name, optional = _safe(column.name), ""
    if column.role is Role.KEY:
        optional = ' data-optional="left out"'
    elif column.nullable:
        optional = ' data-optional="null"'
    facts = f'name="{name}" data-kind="{column.kind}"{optional}'
    words = " ".join(filter(None, [column.doc, f"({column.unit})" if column.unit else ""]))
    if column.kind in (Kind.BOOLEAN, Kind.CATEGORY):
        choices = ["true", "false"] if column.kind is Kind.BOOLEAN else list(column.choices)
        options = ([""] if column.nullable else []) + choices
        first = str(value).lower() if column.kind is Kind.BOOLEAN else str(value)
        entry = f"<select {facts}>{''.join(_option(option, option == first) for option in options)}</select>"
    else:
        entry = f'<input {facts} value="{_safe(str(value))}">'
    return f"<label>{name}<small>{_safe(words)}</small>{entry}</label>"


def _option(text: str, chosen: bool) -> str:
    return f"<option{' selected' if chosen else ''}>{_safe(text)}</option>"


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
