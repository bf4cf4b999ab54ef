"""Networks: registries of teachers and students, their weights, and where a network looks (Grad-CAM).

Builds networks that take pixels 0..255 and give logits; scaling lives in their graphs. Trains nothing,
converts nothing, and knows no data.
"""
