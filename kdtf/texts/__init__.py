"""Radiology report texts to a label: a bag of words and naive Bayes, cross-validated and tested.

An island beside the images: it uses the evidence and the figures of a run and no network. It refuses to put
a text on both sides of a split, to let a test text reach the model, and to unpickle a saved one. It does not
understand a text: which word a "no" belongs to is lost.
"""
