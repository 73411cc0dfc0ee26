from shoal.store import Alerts, Artifacts, Labels, Lineage, Memo, Metrics, Models, Runs, Store


def test_parts_of_the_store_keep_the_interfaces(store):
    """Every method that an interface names is there; the types are checked by mypy at `SqlStore`."""
    parts = {
        Store: store,
        Runs: store.runs,
        Metrics: store.metrics,
        Artifacts: store.artifacts,
        Lineage: store.lineage,
        Models: store.models,
        Alerts: store.alerts,
        Memo: store.memo,
        Labels: store.labels,
    }

    missing = [
        f"{interface.__name__}.{name}"
        for interface, part in parts.items()
        for name in vars(interface)
        if not name.startswith("_") and not hasattr(part, name)
    ]

    assert missing == []


def test_face_hands_out_every_name():
    import shoal.store

    assert [name for name in shoal.store.__all__ if not hasattr(shoal.store, name)] == []
