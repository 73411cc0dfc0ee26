from hypothesis import HealthCheck, given, settings, strategies

from shoal.base import Ref, new_id

NODES = strategies.sampled_from([Ref("thing", f"n{index}", "") for index in range(6)])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.sets(strategies.tuples(NODES, NODES), max_size=12))
def test_upstream_is_the_transitive_closure(store, links):
    """Against a slow, obvious closure; every example has its own nodes in the shared store."""
    universe = new_id()
    links = {(Ref("thing", f"{universe}{a.address}", ""), Ref("thing", f"{universe}{b.address}", "")) for a, b in links}
    for source, target in links:
        store.lineage.link(source, target, "made")
    start = Ref("thing", f"{universe}n0", "")
    reached, expected = {start}, set()
    for _ in range(7):
        expected |= {(source, target) for source, target in links if target in reached}
        reached |= {source for source, _ in expected}

    edges = store.lineage.upstream(start)

    assert len(edges) == len(expected)
    assert {(edge.source, edge.target) for edge in edges} == expected


def test_kinds_do_not_mix(store):
    store.lineage.link(Ref("file", "a", "b3:1"), Ref("dataset", "d", "b3:2"), "ingested")

    assert store.lineage.targets_of(Ref("package", "a", "b3:1")) == []


def test_edge_keeps_the_address_it_was_told_with(store):
    store.lineage.link(Ref("file", "/first", "b3:1"), Ref("dataset", "d", ""), "ingested")
    store.lineage.link(Ref("file", "/second", "b3:1"), Ref("dataset", "d", ""), "ingested")

    (edge,) = store.lineage.sources_of(Ref("dataset", "d", ""))

    assert edge.source.address == "/first"
