import numpy as np
import pytest

from shoal.demo.scene import MODEL
from shoal.demo.traffic import send
from shoal.demo.watching import watch_changed, watch_clean

pytestmark = pytest.mark.slow


def test_clean_traffic_is_silent_changed_images_alert_and_labels_show_the_fall(scene, package, garments):
    rows = garments.take(np.arange(1500))
    clean = send(scene.running.url, MODEL, rows["image"]).accuracy(rows["label"])

    watcher, story = watch_clean(scene, package, since_row=0)
    few = slice(0, 720)
    watch_changed(scene, watcher, story, rows["image"][few], rows["label"][few])

    assert story.false_alerts == 0
    assert story.changed_at == 8
    assert 1 <= story.windows_to_alert <= 3
    assert story.accuracy_during < clean - 0.2
    assert scene.store.alerts.list(MODEL)[0].kind == "drift"
