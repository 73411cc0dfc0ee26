from shoal.data import Dataset, MinPerClass, Stratified, Weighted
from shoal.data.loading.order import EpochOrder
from shoal.data.sampling.binding import OrderSpec, Readable, bound_order


def test_a_declared_order_gets_its_rows_and_a_made_one_stays(people: Dataset) -> None:
    made = EpochOrder(10, seed=1, shuffle=True)
    readable: Readable = people

    bound = bound_order(Stratified("label"), readable, 64, 0)

    assert bound is not None
    assert bound.num_rows == 3_000
    assert bound_order(made, people, 64, 0) is made
    assert bound_order(None, people, 64, 0) is None


def test_every_declared_order_says_what_it_is() -> None:
    declared: list[OrderSpec] = [
        Stratified("label"),
        Stratified("user"),
        MinPerClass("label"),
        MinPerClass("label", at_least=2),
        Weighted("weight"),
        Weighted("label", weights="balanced"),
        Weighted("label", weights={1: 2.0}),
        Weighted("weight", num_rows=5),
    ]

    assert len({repr(order.identity()) for order in declared}) == len(declared)
