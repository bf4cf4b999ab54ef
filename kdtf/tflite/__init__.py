"""Small files: a student as `.tflite` by recipe, its model card, what it costs, and its C source.

Converts, quantizes, fine-tunes for a file, describes. It chooses nothing and scores nothing.
"""
