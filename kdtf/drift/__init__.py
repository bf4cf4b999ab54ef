"""What a student met since it was shipped, against what its card expects: a log, tests, a page.

The log holds numbers of each image and of its answer, no pixel and no name. A verdict compares it, window by
window, with the training and val images that the card has in numbers. Answers no image, changes no threshold.
"""
