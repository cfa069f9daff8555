"""Public checkpoints of others as our networks: nothing but their tensors is read, and every key is accounted for.

`transformer` reads DiT and SiT, `diffusers_layout` folders of diffusers, `repa` turns REPA's time and velocity into
ours, `maskgit` reads both MaskGITs, and `weights` is what they share.
"""
