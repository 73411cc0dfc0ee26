import numpy as np
import pytest

from shoal.base import ConfigError, InputError, NotFoundError, PackageError, ServeError
from shoal.serve import Client, start
from shoal.serve.replicas.carrying import carry
from shoal.serve.replicas.chain import Chain, ChainModel
from shoal.serve.replicas.loading import load_model

IMAGES = np.array([[[1, 2], [3, 4]], [[9, 9], [0, 0]]], np.uint8)


def brighten(batch):
    if (batch["picture"] > 200).any():
        raise ValueError("too bright already")
    return {"image": batch["picture"] * 2, "unused": batch["picture"]}


class Best:
    deterministic = False

    def predict(self, batch):
        return {"best": batch["scores"].argmax(axis=1), "sure": batch["scores"].max(axis=1)}


def test_steps_run_one_after_the_other(scorer):
    model = ChainModel(Chain(brighten, scorer, Best, example={"picture": IMAGES}), threads=1)

    alone = load_model(str(scorer)).run([IMAGES * 2])[0]

    assert [spec.name for spec in model.signature.inputs] == ["picture"]
    assert [(spec.name, spec.dtype) for spec in model.signature.outputs] == [("best", "int64"), ("sure", "float32")]
    assert model.run({"picture": IMAGES})["sure"].tolist() == alone.max(axis=1).tolist()
    assert not model.deterministic


def test_the_first_model_tells_the_inputs(scorer):
    loaded = load_model(carry(Chain(scorer, Best)))

    assert [(field.name, field.datatype, field.shape) for field in loaded.interface.inputs] == [
        ("image", "UINT8", (None, 2, 2))
    ]
    assert loaded.interface.batched
    assert [rows for rows, _ in loaded.timings] == [1, 4, 8, 32]


def test_one_array_needs_no_name(scorer):
    model = ChainModel(Chain(lambda batch: batch["anything"], scorer, example={"anything": IMAGES}), threads=1)

    assert model.run({"anything": IMAGES})["scores"].shape == (2, 3)


def test_a_step_that_refuses_values_is_named(scorer):
    model = ChainModel(Chain(brighten, scorer, example={"picture": IMAGES}), threads=1)

    with pytest.raises(InputError, match=r"step 1 of chain, brighten, .*too bright already"):
        model.run({"picture": np.full((1, 2, 2), 255, np.uint8)})


def test_a_step_that_gives_what_the_next_does_not_take_is_named(scorer):
    with pytest.raises(PackageError, match=r"step 2 of chain, scorer\.onnx, does not take .* dtype float64"):
        ChainModel(Chain(lambda batch: batch["x"] / 2, scorer, example={"x": IMAGES}), threads=1)


def test_a_model_that_fails_in_the_middle_is_named(picker):
    model = ChainModel(Chain(picker, lambda batch: batch["logarithm"] + 1), threads=1)

    with pytest.raises(PackageError, match=r"step 1 of chain, picker\.onnx, the model failed"):
        model.run({"index": np.array([7])})


def test_a_mistake_in_a_step_is_no_fault_of_the_input(scorer):
    def forgetful(batch):
        return batch["scores"] if abs(batch["scores"][0, 0] - 1 / 3) < 0.01 else batch["nothing"]

    model = ChainModel(Chain(scorer, forgetful), threads=1)

    with pytest.raises(ServeError, match="step 2 of chain, forgetful, failed on this input with a KeyError") as caught:
        model.run({"image": np.full((1, 2, 2), 255, np.uint8)})

    assert caught.value.status == 500


def test_what_is_no_step_is_told(scorer, tmp_path):
    with pytest.raises(ConfigError, match="at least one"):
        Chain()
    with pytest.raises(ConfigError, match="step 2 of a Chain is a int"):
        Chain(scorer, 7)
    with pytest.raises(NotFoundError, match=r"step 1 .*absent\.onnx"):
        Chain(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(PackageError, match=r"step 1 of chain, broken\.onnx, cannot be loaded"):
        ChainModel(Chain(tmp_path / "broken.onnx"), threads=1)
    with pytest.raises(PackageError, match="does not say what it takes"):
        ChainModel(Chain(brighten, scorer), threads=1)


def test_a_chain_is_served(scorer):
    chain = Chain(brighten, scorer, Best(), example={"picture": IMAGES}, name="bright")

    with start(chain, port=0, replicas=1) as server, Client(server.url) as client:
        result = client.infer("bright", {"picture": IMAGES})

        assert result.outputs["best"].shape == (2,)
        with pytest.raises(InputError, match="brighten"):
            client.infer("bright", {"picture": np.full((1, 2, 2), 255, np.uint8)})
