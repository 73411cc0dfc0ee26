"""The page at /docs: the models that are served, what they take and give, and a line of curl for each."""

import json
import shlex
from html import escape
from urllib.parse import quote

import shoal
from shoal.serve.desk.openapi import main_versions
from shoal.serve.versions.models import Models, ServedVersion
from shoal.serve.wire.images import ImageInput, describe
from shoal.serve.wire.interface import TensorField
from shoal.serve.wire.predicting import predicting_for

# Nothing is fetched, run or framed: the page is text and its own style.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_LONGEST_EXAMPLE = 400
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b2733;
  background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #d5dde5;
  padding-top: 1.5rem }
table { border-collapse: collapse; margin: .5rem 0 } th, td { text-align: left; padding: .2rem 1rem .2rem 0 }
th { font-weight: 600; color: #51606f } code, pre { font: 14px/1.5 ui-monospace, monospace }
pre { background: #f2f5f8; padding: .8rem; overflow-x: auto; border-radius: 4px } a { color: #0b5cad }
@media (prefers-color-scheme: dark) { body { color: #dbe4ec; background: #12181f } pre { background: #1c2530 }
  h2 { border-color: #334150 } th { color: #93a3b3 } a { color: #7cb8f2 } }
"""


def page(models: Models, host: str, *, has_key: bool) -> bytes:
    """The page, as HTML.

    Args:
        models: what is served.
        host: where the reader found the server, HOST:PORT, for the examples.
        has_key: whether the examples must send a key.
    """
    parts = [_model(model, served, models.versions_of(model), host, has_key) for model, served in main_versions(models)]
    listed = "\n".join(parts) or "<p>No model is loaded at the moment.</p>"
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>shoal</title>
<style>{_STYLE}</style></head>
<body>
<h1>shoal {escape(shoal.__version__)}</h1>
<p>Predictions over HTTP: plain JSON and pictures at <code>/predict</code>, and the Open Inference Protocol v2.
<code>POST /predict</code> asks the first model below. For programs: <a href="openapi.json">openapi.json</a>.
For people: <a href="status">status</a>, <a href="metrics">metrics</a>.</p>
{listed}
</body>
</html>
""".encode()


def _model(model: str, served: ServedVersion, versions: list[str], host: str, has_key: bool) -> str:
    reads = predicting_for(served.interface)
    url = f"http://{host}/v2/models/{quote(model, safe='')}/predict"
    key = ["-H", "X-API-Key: KEY"] if has_key else []
    body = json.dumps(reads.form.example(), ensure_ascii=False)
    if len(body) > _LONGEST_EXAMPLE:
        body = f"{body[:_LONGEST_EXAMPLE]} ...}}"
    examples = [_curl([*key, url, "-H", "Content-Type: application/json", "-d", body])]
    if reads.image is not None:
        examples.append(_curl([*key, _picture_url(url, reads.image), "-F", "file=@picture.png"]))
        picture = f"<p>It also takes {escape(describe(reads.image))}, as JPEG or PNG; <code>?resize=true</code> "
        picture += "fits another size.</p>"
    else:
        picture = ""
    several = '<p>Several rows: <code>{"rows": [{...}, ...]}</code>.</p>' if reads.form.takes_list else ""
    return f"""<h2>{escape(model)}</h2>
<p>Versions: {escape(", ".join(versions))}</p>
{_table("Takes", served.interface.inputs)}
{_table("Gives", served.interface.outputs)}
{several}{picture}
<pre>{escape(chr(10).join(examples))}</pre>"""


def _table(title: str, fields: tuple[TensorField, ...]) -> str:
    rows = "\n".join(
        f"<tr><td><code>{escape(field.name)}</code></td><td>{field.datatype}</td>"
        f"<td>{escape(str(field.wire_shape))}</td><td>{escape(_values(field))}</td></tr>"
        for field in fields
    )
    return f"<table><tr><th>{title}</th><th>datatype</th><th>shape</th><th>values</th></tr>\n{rows}</table>"


def _values(field: TensorField) -> str:
    return f"{field.type.values}; in rows also null, for none" if field.fills_nan else field.type.values


def _picture_url(url: str, image: ImageInput) -> str:
    return f"{url}?white=255" if image.is_float else url


def _curl(arguments: list[str]) -> str:
    return shlex.join(["curl", *arguments])
