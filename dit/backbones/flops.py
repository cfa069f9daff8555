"""What a backbone weighs and costs, in the papers' units."""

from torch import nn

from dit.backbones.embeddings import FREQUENCIES
from dit.backbones.transformer import DiT, mlp_width


def num_parameters(model: nn.Module) -> int:
    """Trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def num_multiply_adds(model: DiT) -> int:
    """Multiply-adds of one forward pass of one sample: what the papers call Gflops, times 1e9."""
    config, tokens, width = model.config, model.side**2, model.config["hidden_size"]
    matrices = 3 if config["swiglu"] else 2
    mlp = tokens * width * matrices * mlp_width(width, config["mlp_ratio"], config["swiglu"])
    projections = 4 * tokens * width**2 + mlp
    attention = 2 * tokens**2 * width
    modulations = 6 * width**2
    patches = tokens * width * config["patch_size"] ** 2 * (config["in_channels"] + model.out_channels)
    conditions = 2 * FREQUENCIES * width + width**2 + 2 * width**2  # time, and the last modulation
    return int(config["depth"] * (projections + attention + modulations) + patches + conditions)
