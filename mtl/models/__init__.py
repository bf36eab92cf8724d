"""Networks: a backbone, one head per task, and the model that joins them."""

from mtl.models.model import MultiTaskModel, build_model

__all__ = ["MultiTaskModel", "build_model"]
