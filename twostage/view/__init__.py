"""One image under transformed latents of several autoencoders, and samples of generators: numbers, and a page."""
