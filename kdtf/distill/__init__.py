"""Distillation: losses by value, `Distiller`, the batches of fixed views, one training loop for all networks.

Trains networks that others build over images that others read. It reads no file but a checkpoint of its
own, and never sees a test image.
"""
