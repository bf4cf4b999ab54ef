"""Whatever the user has becomes a checked `Dataset`; what is odd about it is said by the audit.

`load` maps arrays, checks them once, and turns pixels into uint8 and labels into int64.
`views` draws the augmented copies that teacher and student share, `typical` puts the training images into
numbers, and `phantom` draws a synthetic data set. Nothing here knows a model or starts TensorFlow, nothing
writes to the user's own files, and nothing unpickles what it reads.
"""
