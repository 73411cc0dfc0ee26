import json


def test_shows_where_each_setting_came_from(shoal, tmp_path, monkeypatch):
    (tmp_path / "shoal.toml").write_text("threads = 2\n")
    monkeypatch.setenv("SHOAL_STORE", "sqlite:///elsewhere.db")

    found = json.loads(shoal("config", "show", "--json").out)

    assert found["threads"] == {"value": 2, "source": "shoal.toml:1"}
    assert found["store"] == {"value": "sqlite:///elsewhere.db", "source": "SHOAL_STORE"}
    assert found["home"]["source"] == "default"


def test_an_unknown_setting_names_the_nearest(shoal, tmp_path):
    (tmp_path / "shoal.toml").write_text("thread = 2\n")

    done = shoal("config", "show")

    assert done.code == 1
    assert "threads" in done.err
