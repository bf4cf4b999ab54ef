"""How good a model is and how sure one can be of it: from probabilities and labels to rows of tables.

Metrics, bootstrap intervals, paired tests and calibration; in `choose` every choice between models, made on
val alone. It writes no file, draws no picture, and never imports Keras.
"""
