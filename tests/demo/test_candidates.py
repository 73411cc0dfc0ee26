import pytest

torch = pytest.importorskip("torch")

from shoal.demo.candidates import BASELINE, CANDIDATES, Candidate  # noqa: E402

BATCH = {"image": torch.zeros(3, 28, 28, dtype=torch.uint8), "label": torch.tensor([0, 4, 9])}


@pytest.mark.parametrize("settings", [BASELINE, *CANDIDATES.values()])
def test_takes_pixels_and_gives_a_finite_loss(settings):
    task = Candidate(**settings)
    model = task.build()

    outputs = model(*task.inputs(BATCH))

    assert outputs.shape == (3, 10)
    assert torch.isfinite(task.loss(outputs, BATCH))


def test_candidates_differ_in_one_idea_each():
    plain, batch_norm, dropout = (Candidate(**settings).build() for settings in CANDIDATES.values())

    assert not _has(plain, torch.nn.BatchNorm2d)
    assert _has(batch_norm, torch.nn.BatchNorm2d)
    assert [part.p for part in dropout.modules() if isinstance(part, torch.nn.Dropout)] == [0.2]


def test_the_learning_rate_ends_near_zero():
    task = Candidate()
    optimizer = task.optimizer(task.build().parameters())
    scheduler = task.scheduler(optimizer, 20)

    for _ in range(19):
        optimizer.step()
        scheduler.step()

    assert scheduler.get_last_lr()[0] < 1e-4


def _has(model, kind):
    return any(isinstance(part, kind) for part in model.modules())
