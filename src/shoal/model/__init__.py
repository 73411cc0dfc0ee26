"""The model package: signature, export, evaluation, gates, offline prediction, and the way back from a prediction."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.model.evaluation import Evaluation as Evaluation
    from shoal.model.evaluation import evaluate as evaluate
    from shoal.model.evaluation import evaluate_classification as evaluate_classification
    from shoal.model.gates import AtLeast as AtLeast
    from shoal.model.gates import AtMost as AtMost
    from shoal.model.gates import Beats as Beats
    from shoal.model.gates import Gate as Gate
    from shoal.model.gates import NotWorse as NotWorse
    from shoal.model.gates import gate as gate
    from shoal.model.latency import Latency as Latency
    from shoal.model.latency import measure_interleaved as measure_interleaved
    from shoal.model.latency import measure_latency as measure_latency
    from shoal.model.manifest import Manifest as Manifest
    from shoal.model.onnx_file import OnnxFile as OnnxFile
    from shoal.model.onnx_file import find_model as find_model
    from shoal.model.packaging import amend as amend
    from shoal.model.packaging import package as package
    from shoal.model.prediction import predict as predict
    from shoal.model.prediction_plan import Plan as Plan
    from shoal.model.prediction_plan import read_prediction_plan as read_prediction_plan
    from shoal.model.profiling import training_profile as training_profile
    from shoal.model.profiling import with_scores as with_scores
    from shoal.model.provenance import Why as Why
    from shoal.model.provenance import why as why
    from shoal.model.reading import Package as Package
    from shoal.model.reading import open_package as open_package
    from shoal.model.reading import open_package_handle as open_package_handle
    from shoal.model.scores import score_columns as score_columns
    from shoal.model.session import Session as Session
    from shoal.model.signature import Signature as Signature
    from shoal.model.signature import TensorSpec as TensorSpec

__all__ = [
    "AtLeast",
    "AtMost",
    "Beats",
    "Evaluation",
    "Gate",
    "Latency",
    "Manifest",
    "NotWorse",
    "OnnxFile",
    "Package",
    "Plan",
    "Session",
    "Signature",
    "TensorSpec",
    "Why",
    "amend",
    "evaluate",
    "evaluate_classification",
    "find_model",
    "gate",
    "measure_interleaved",
    "measure_latency",
    "open_package",
    "open_package_handle",
    "package",
    "predict",
    "read_prediction_plan",
    "score_columns",
    "training_profile",
    "why",
    "with_scores",
]
__getattr__ = lazy_face(
    __name__,
    {
        "AtLeast": "gates",
        "AtMost": "gates",
        "Beats": "gates",
        "Evaluation": "evaluation",
        "Gate": "gates",
        "Latency": "latency",
        "Manifest": "manifest",
        "NotWorse": "gates",
        "OnnxFile": "onnx_file",
        "Package": "reading",
        "Plan": "prediction_plan",
        "Session": "session",
        "Signature": "signature",
        "TensorSpec": "signature",
        "Why": "provenance",
        "amend": "packaging",
        "evaluate": "evaluation",
        "evaluate_classification": "evaluation",
        "find_model": "onnx_file",
        "gate": "gates",
        "measure_interleaved": "latency",
        "measure_latency": "latency",
        "open_package": "reading",
        "open_package_handle": "reading",
        "package": "packaging",
        "predict": "prediction",
        "read_prediction_plan": "prediction_plan",
        "score_columns": "scores",
        "training_profile": "profiling",
        "why": "provenance",
        "with_scores": "profiling",
    },
)
