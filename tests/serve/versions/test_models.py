import msgspec
import pytest

from shoal.serve.links.channel import Key, Loaded
from shoal.serve.links.messages import ModelPlan
from shoal.serve.versions.models import Models
from shoal.serve.versions.router import Shares
from shoal.serve.wire.refusal import RefusedError


@pytest.fixture
def models(interface):
    models = Models()
    models.plan = {
        "m": ModelPlan({"1": "/1", "2": "/2"}, {"1": 0.5, "2": 0.5}),
        "slow": ModelPlan({"1": "/s"}, {"1": 1}),
    }
    models.shares = {"m": Shares.of({"1": 0.5, "2": 0.5})}
    for version in ("1", "2"):
        models.add(Loaded("m", version, f"/{version}", interface, [(1, 0.001)], "classification"))
    return models


def test_a_name_leads_to_the_main_version(models):
    assert models.find("m", None).key == Key("m", "1")


def test_a_version_leads_to_itself(models):
    assert models.find("m", "2").key == Key("m", "2")


@pytest.mark.parametrize(("model", "version"), [("n", None), ("m", "3"), ("m", ""), ("", None)])
def test_what_is_not_served_is_404_with_what_is(models, model, version):
    with pytest.raises(RefusedError) as caught:
        models.find(model, version)

    assert caught.value.status == 404
    assert caught.value.expected


def test_what_is_still_loading_is_503(models):
    with pytest.raises(RefusedError, match="slow is still being loaded") as caught:
        models.find("slow", None)

    assert caught.value.status == 503


def test_ids_are_divided_over_the_versions(models):
    first = models.find("m", None)

    assert {models.choose(first, f"id{number}").key.version for number in range(50)} == {"1", "2"}


def test_versions_with_equal_interfaces_share_a_protocol(models):
    assert models.find("m", "1").protocol is models.find("m", "2").protocol


def test_a_second_replica_does_not_reset_what_was_measured(models, interface):
    models.find("m", "1").cost.observe(1, 0.1)

    again = models.add(Loaded("m", "1", "/1", interface, [(1, 0.001)], "classification"))

    assert again is models.find("m", "1")


def test_forgotten_versions_are_404(models):
    models.forget({Key("m", "2")})
    models.plan = {"m": ModelPlan({"2": "/2"}, {"2": 1.0})}

    with pytest.raises(RefusedError):
        models.find("m", "1")


def test_a_version_that_is_loaded_again_is_another_one(models, interface):
    first = models.find("m", "1")
    moved = models.add(Loaded("m", "1", "/elsewhere", interface, [(1, 0.001)], "classification"))
    models.forget(set())
    again = models.add(Loaded("m", "1", "/elsewhere", interface, [(1, 0.001)], "classification"))

    assert len({first.serial, moved.serial, again.serial}) == 3


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_version_says_whether_its_answers_may_be_kept(models, interface, deterministic):
    told = msgspec.structs.replace(interface, deterministic=deterministic)

    assert models.add(Loaded("r", "1", "/r", told, [(1, 0.001)], "unknown")).is_deterministic is deterministic
