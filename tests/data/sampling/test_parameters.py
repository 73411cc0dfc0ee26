import pytest

from shoal.base import InputError
from shoal.data.sampling.parameters import check_parameters
from shoal.data.sampling.recipes import parse_address


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("range", {"low": "0", "high": "10000000000000000"}),
        ("group", {"by": "label", "seed": -(2**70), "low": "0", "high": "80"}),
        ("filter", {"where": ["label", "==", 1]}),
        ("sample", {"fraction": 1.0, "seed": 0}),
        ("sample", {"rows": 3, "by": "label", "seed": 0}),
    ],
)
def test_each_kind_takes_its_own(kind: str, parameters: dict[str, object]) -> None:
    check_parameters(kind, parameters)

    with pytest.raises(InputError, match="unknown field"):
        check_parameters(kind, parameters | {"kind": 1})
    for name in parameters.keys() - {"by"} if kind == "sample" else parameters:
        with pytest.raises(InputError):
            check_parameters(kind, {key: value for key, value in parameters.items() if key != name})


@pytest.mark.parametrize(
    "recipe",
    [
        "bootstrap(seed=1)",
        "sample(kind=1,fraction=0.5,seed=0)",
        "sample(cls=1)",
        "sample(fraction=0.5)",
        "sample(seed=0)",
        "sample(fraction=0.5,rows=3,seed=0)",
        "sample(fraction=1.5,seed=0)",
        'sample(fraction="half",seed=0)',
        "sample(fraction=1e999,seed=0)",
        "sample(fraction=NaN,seed=0)",
        "sample(rows=0,seed=0)",
        "sample(rows=true,seed=0)",
        "sample(rows=3,seed=0,seed=1)",
        'range(low="0")',
        'range(low="zz",high="80")',
        'range(low="80",high="0")',
        'range(low="0",high="ffffffffffffffffff")',
        'group(by=["label"],low="0",high="80",seed=0)',
        'group(by="label",low="0",high="80",seed="0")',
        "filter(where=3)",
        "filter()",
        "filter(where=" + "[" * 70 + "]" * 70 + ")",
        "filter(where=" + "[" * 100_000,
        "sample(fraction=0.5,seed=" + "9" * 5_000 + ")",
        'sample(fraction=0.5,seed=0,by="\\ud800")',
    ],
)
def test_an_address_with_other_parameters_is_refused_as_it_is_read(recipe: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_address(f"clicks@3#{recipe}")

    assert caught.value.next_step
