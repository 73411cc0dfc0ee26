"""What we ask of every answer beside schemathesis's own checks; it loads this file by SCHEMATHESIS_HOOKS."""

import json

import schemathesis

# Beside the errors that the client makes: it may not want to wait as long as it takes.
_OF_TIMEOUTS = (503, 504)


@schemathesis.check
def answers_or_names_the_mistake(ctx, response, case):  # as the tool calls it
    """No mistake of ours; what is refused says which field is wrong, and what was expected."""
    status = response.status_code
    if (case.path.endswith("/ready") and status == 503) or (status in _OF_TIMEOUTS and _has_timeout(case)):
        return
    assert status < 500, f"{status}: {response.text}"
    if status >= 400 and status not in (401, 404, 405) and response.request.method != "HEAD":
        refusal = json.loads(response.content)
        assert refusal.keys() >= {"error", "field", "found", "expected", "next"}, refusal


@schemathesis.check
def takes_what_the_document_allows(ctx, response, case):  # as the tool calls it
    """Plain JSON that is right by its schema is taken; the model may still fail on its values."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or case.method.upper() != "POST":
        return
    if not case.path.endswith("/predict") or case.media_type != "application/json" or case.query:
        return
    if response.status_code == 400:
        refusal = json.loads(response.content)
        # What no schema can say: rows are as long as the first one, and whole numbers are not written as 3.0.
        is_known = "as in the first row" in refusal["expected"] or _is_whole_float(refusal["found"])
        assert is_known, response.text


@schemathesis.hook
def filter_failure(context, failure, case, response):  # as the tool calls it
    """Headers that nobody has heard of are forbidden by no document, and every proxy adds some."""
    return "x-schemathesis-unknown-property" not in {name.lower() for name in case.headers or {}}


def _is_whole_float(found):
    try:
        return float(found).is_integer() and not found.lstrip("-").isdigit()
    except ValueError:
        return False


def _has_timeout(case):
    if "X-Timeout-Us" in (case.headers or {}):
        return True
    return isinstance(case.body, dict) and "timeout" in (case.body.get("parameters") or {})
