"""Distillation: losses by value, `Distiller`, the batches of fixed views, one training loop for all networks.

Trains what it is given over what it is given. It builds no network, reads no file but a checkpoint of its
own, and never sees a test image.
"""
