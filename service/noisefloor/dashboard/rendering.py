"""Templates to responses: everything escaped, nothing from elsewhere."""

from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from noisefloor.contract.measurement import unit
from noisefloor.dashboard import words
from noisefloor.gate.bisect import called
from noisefloor.history.environments import field_words

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}

_templates = Environment(
    loader=PackageLoader("noisefloor.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "acknowledgement": str,
    "amount": words.amount_words,
    "baseline": words.baseline_words,
    "called": called,
    "decibels": words.decibels,
    "edge": words.edge_words,
    "environment": words.environment_words,
    "field": field_words,
    "kernel": words.kernel_words,
    "metric": words.metric_words,
    "moment": words.moment,
    "policy": words.policy_words,
    "scientific": words.scientific,
    "sha": words.short_sha,
    "key": words.short_key,
    "signed": words.signed,
    "spaced": words.spaced,
    "unit": unit,
    "subject": words.subject_words,
}


def text_of(template: str, **context: Any) -> str:
    """A template's text."""
    return _templates.get_template(template).render(context)


def rendered(template: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """A page."""
    return HTMLResponse(text_of(template, **context), status_code=status_code, headers=HEADERS)
