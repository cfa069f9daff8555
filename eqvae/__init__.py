"""Stage 1: autoencoders whose latents scale and rotate as images do, and the means to measure them."""
