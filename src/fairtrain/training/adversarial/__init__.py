"""A predictor against an adversary that reads the groups, and a layer that reverses gradients."""

from fairtrain.training.adversarial.reversal import GradientReversalLayer
from fairtrain.training.adversarial.trainer import AdversarialDebiasingTrainer

__all__ = ["AdversarialDebiasingTrainer", "GradientReversalLayer"]
