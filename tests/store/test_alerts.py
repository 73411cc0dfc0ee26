def test_numbers_are_never_given_twice(store):
    ids = [store.alerts.record("drift", "fashion", {}).id for _ in range(3)]

    assert ids == [1, 2, 3]


def test_change_says_which_alert(store):
    alert = store.alerts.record("drift", "fashion", {"worst": "image.mean"})
    store.alerts.close(alert.id)

    changes = [(change.kind, change.fields) for change in store.changes(0)]

    told = {"id": alert.id, "kind": "drift"}
    assert changes == [("alert.opened", told), ("alert.closed", told)]


def test_limit_keeps_the_newest(store):
    for subject in "abc":
        store.alerts.record("drift", subject, {})

    assert [alert.subject for alert in store.alerts.list(limit=2)] == ["c", "b"]
