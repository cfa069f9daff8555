"""What setup.cfg cannot say: `configs/` is installed as data of the package, below `twostage/recipes`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["eqvae*", "dit*", "twostage*"]), "twostage.recipes"],
    package_dir={"twostage.recipes": "configs"},
)
