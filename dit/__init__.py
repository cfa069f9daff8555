"""Stage 2: train a generator on frozen latents, sample from it, and ask how fast it learned."""
