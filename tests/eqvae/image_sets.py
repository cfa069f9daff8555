"""Random images, statistics, and the files that hold them, for tests of what is measured on sets of images."""

import numpy as np
import torch


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_images(count, side=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def save_images(path, images, **more):
    np.savez(path, arr_0=images.permute(0, 2, 3, 1).numpy(), **more)
    return str(path)


def statistics(width, seed):
    root = normal(width, width, seed=seed).numpy()
    return {"mu": normal(width, seed=seed + 1).numpy(), "sigma": root @ root.T}


class PixelFeatures(torch.nn.Module):
    """Stands for an extractor: features are the pixels of an image [8, 8] of one row."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        features = images.flatten(1).float()[:, :12]
        return features, features[:, :2], features[:, :3]
