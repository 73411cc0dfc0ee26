"""The profile that live traffic is compared with: inputs as in training, scores as on rows never trained on."""

from typing import TYPE_CHECKING

from shoal.data import Profile
from shoal.model.manifest import Kind
from shoal.model.reading import Package
from shoal.model.scores import score_columns
from shoal.model.session import Session
from shoal.model.tables import row_batches

if TYPE_CHECKING:
    from shoal.data import Dataset

_BATCH_ROWS = 1024


def training_profile(package: Package, train: "Dataset", held_out: "Dataset", *, label: str | None = None) -> Profile:
    """Profile the inputs of all of `train`, and what the model says about all of `held_out`; memory is bounded.

    Scores come from held-out rows because a model is surer of rows that it was trained on: any live traffic would look
    like drift beside those. `num_rows` counts the training rows.

    Args:
        package: the model whose inputs and scores are profiled.
        train: the rows that it was trained on.
        held_out: rows like them that it was not trained on.
        label: a column of `train` to be profiled too, so that a later shift of classes can be seen.
    """
    return profile_model(Session(package), package.model_kind, train, held_out, label=label)


def with_scores(profile: Profile, package: Package, held_out: "Dataset") -> Profile:
    """Return the profile with its score columns replaced by those of another model over the same inputs."""
    return _with_scores(profile, Session(package), package.model_kind, held_out)


def profile_model(
    session: Session, kind: Kind, train: "Dataset", held_out: "Dataset", *, label: str | None = None
) -> Profile:
    """`training_profile` of a model that is no package yet."""
    inputs = Profile()
    signature = session.signature
    columns = [*signature.columns, *([label] if label else [])]
    # Raw rows, as a service will get and log them: what the graph does to them first is the same on both sides.
    for rows in row_batches(train, columns, _BATCH_ROWS, masked=signature.masked):
        inputs.update(rows)
    return _with_scores(inputs, session, kind, held_out)


def _with_scores(profile: Profile, session: Session, kind: Kind, held_out: "Dataset") -> Profile:
    scores = Profile()
    signature = session.signature
    for rows in row_batches(held_out, signature.columns, _BATCH_ROWS, masked=signature.masked):
        scores.update(score_columns(session.run(signature.inputs_from(rows)), kind))
    joined = Profile()
    joined.num_rows = profile.num_rows
    joined.columns = {**profile.columns, **scores.columns}
    return joined
