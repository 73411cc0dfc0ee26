import pytest

from shoal.base import ConfigError, InputError
from shoal.data.remote.location import is_url, parse_location, split_address


@pytest.mark.parametrize(
    "text", ["s3://b/k", "gs://b", "az://c/k", "https://h/x", "http://h", "file:///tmp/x", "S3://b/k"]
)
def test_urls_of_known_kinds_are_urls(text):
    assert is_url(text)


@pytest.mark.parametrize("text", ["clicks", "/data/clicks", "C:/x", "ftp://h/x", 3, None])
def test_anything_else_is_none(text):
    assert not is_url(text)


def test_options_stand_in_the_query_or_beside_it_and_make_the_same_location():
    inside = parse_location("s3://bucket/clicks/?region=eu-west-1&skip_signature=true")
    beside = parse_location("s3://bucket/clicks", {"skip_signature": True, "region": "eu-west-1"})

    assert inside == beside
    assert parse_location(str(inside)) == inside


def test_the_query_of_a_web_server_is_not_ours():
    assert parse_location("https://host/a.csv?sig=1").url == "https://host/a.csv?sig=1"


@pytest.mark.parametrize("name", ["secret_access_key", "access_key_id", "sas_key", "session_token"])
def test_secrets_do_not_go_into_addresses(name):
    with pytest.raises(ConfigError, match="environment"):
        parse_location("s3://bucket/clicks", {name: "x"})


@pytest.mark.parametrize("text", ["s3://bucket/..", "s3://b/a/../c", "http://h/./x", "file:///tmp/../x"])
def test_a_path_that_climbs_is_refused(text):
    with pytest.raises(InputError, match=r"\.\."):
        parse_location(text)


@pytest.mark.parametrize(
    "text", ["http://host:8080", "https://host/", "s3://bucket", "s3://bucket/?region=x", "file:///"]
)
def test_what_is_whole_lies_in_nothing(text):
    with pytest.raises(InputError, match="whole"):
        parse_location(text).parent()


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="s3"):
        parse_location("ftp://host/x")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://b/clicks", ("s3://b/clicks", None, "")),
        ("s3://b/clicks@3", ("s3://b/clicks", 3, "")),
        ("s3://b/clicks@3?region=x", ("s3://b/clicks?region=x", 3, "")),
        ("s3://b/clicks?region=x@3", ("s3://b/clicks?region=x", 3, "")),
        ("s3://b/clicks@3#0-8", ("s3://b/clicks", 3, "0-8")),
        ("https://user@10", ("https://user@10", None, "")),
    ],
)
def test_the_version_stands_behind_the_path_or_at_the_end(text, parts):
    assert split_address(text) == parts


def test_parent_and_child_are_inverse():
    location = parse_location("s3://bucket/a/clicks?region=x")

    assert location.parent().child(location.name) == location
