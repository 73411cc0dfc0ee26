import re
from html.parser import HTMLParser

import pytest

from shoal.serve.desk.page import page
from shoal.serve.links.channel import Loaded
from shoal.serve.links.messages import ModelPlan
from shoal.serve.versions.models import Models
from shoal.serve.versions.router import Shares
from shoal.serve.wire.interface import Interface, TensorField


def models_of(**interfaces):
    models = Models()
    for name, interface in interfaces.items():
        models.plan[name] = ModelPlan({"1": "/1"}, {"1": 1.0})
        models.shares[name] = Shares.of({"1": 1.0})
        models.add(Loaded(name, "1", "/1", interface, [(1, 0.001)], "unknown"))
    return models


def shown(models, host="here:1", *, has_key=False):
    return page(models, host, has_key=has_key).decode()


@pytest.fixture
def hostile():
    name = "<script>alert(1)</script>"
    field = TensorField(name, "FP32", (None,))
    return Interface((field,), (TensorField("y'\"&", "FP32", (None,)),), batched=True)


def test_every_model_is_on_it_with_a_line_of_curl(interface):
    html = shown(models_of(first=interface, second=interface))

    for name in ("first", "second"):
        assert f"<h2>{name}</h2>" in html
        assert f"curl http://here:1/v2/models/{name}/predict" in html
    assert "image" in html
    assert "-F file=@picture.png" in html


def test_it_fetches_and_runs_nothing(interface):
    html = shown(models_of(first=interface))

    assert not re.search(r"<script|<link|<img|@import|url\(|src=", html)
    assert all(not link.startswith(("http", "//")) for link in re.findall(r'href="([^"]*)"', html))


def test_names_and_hosts_cannot_become_markup(hostile):
    html = shown(models_of(m=hostile), host='"><script>x</script>')

    tags = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append(tag)

    Tags().feed(html)
    assert "script" not in tags
    assert "&lt;script&gt;" in html


def test_the_example_sends_the_key_where_one_is_needed(interface):
    assert "X-API-Key: KEY" in shown(models_of(m=interface), has_key=True)
    assert "X-API-Key" not in shown(models_of(m=interface))


def test_a_float_picture_says_what_white_is_and_a_large_example_is_cut():
    large = Interface((TensorField("x", "FP32", (None, 64, 64)),), (TensorField("y", "FP32", (None,)),), batched=True)

    html = shown(models_of(m=large))

    assert "?white=255" in html
    assert "...}" in html
    assert len(html) < 8000


def test_before_any_model_is_loaded_it_says_so():
    assert "No model is loaded" in shown(Models())


def test_it_says_where_null_stands_for_no_value():
    fields = (TensorField("age", "FP64", (None,), fills_nan=True), TensorField("height", "FP32", (None,)))
    html = shown(models_of(m=Interface(fields, (TensorField("y", "FP32", (None,)),), batched=True)))

    assert html.count("in rows also null, for none") == 1
