"""Words of the report for readers from the clinic: under a heading they appear on hovering, and in a list.

A new word is a new row. Cells and headings that are called so explain themselves.
"""

UNITS = {
    "patients": "Intervals (95 %) resample the test patients 2,000 times, each with all of their images.",
    "images": "Intervals (95 %) resample the test images 2,000 times. No patients are known: if several "
    "images are of one patient the intervals are too short.",
    "": "Intervals (95 %) resample the test images 2,000 times, whole patients where they are known.",
}
WORDS = {
    "teacher": "a large network that is trained on the data and then labels images for the student",
    "distilled": "a student that learns from its teacher's probabilities as well as from the true labels",
    "student alone": "the same small network, trained on the true labels with the same effort and no teacher",
    "unlabelled": "images without a diagnosis; the teacher's answers stand in for one",
    "seed": "the number that random choices start from; another one is another try of the same recipe",
    "val": "the images by which files, thresholds and temperatures are chosen; never trained on",
    "test": "the images that are scored at the end and choose nothing",
    "copy": "an image that is found again in train or val, or nearly so: a score on it proves nothing",
    "recipe": "how the numbers of a network are stored in its file",
    "keras": "the network as it was trained, before it is made into a small file",
    "float32": "a file with numbers of 32 bits, as accurate as the network",
    "float16": "a file with weights of 16 bits: half the size",
    "dynamic": "a file with weights of 8 bits that computes in 32 bits: a quarter of the size",
    "int8": "a file that stores and computes in 8 bits, for small devices: a quarter of the size",
    "sensitivity": "of the images that are of a class, the part that is called so",
    "specificity": "of the images that are not of a class, the part that is not called so",
    "PPV": "of the images that are called a class, the part that is of it; it falls where the class is rare",
    "NPV": "of the images that are not called a class, the part that is not of it",
    "AUC": "area under the ROC curve: 1 ranks every image right, 0.5 is guessing; macro AUC is the mean over "
    "classes",
    "macro F1": "the mean over classes of F1, which is between sensitivity and PPV",
    "threshold": "the probability from which on an image counts as of a class, chosen on val",
    "prediction set": "all classes that an image may be of; the true one is among them as often as promised",
    "coverage": "of the images of a class, the part whose prediction set has that class",
    "empty sets": "sets without a class: the image fits none as well as that class's own images do",
    "full sets": "sets of all classes, which tell nothing",
    "ECE": "expected calibration error: how far the stated probability is from the part that is right, on "
    "average",
    "Brier": "mean squared error of the probabilities: 0 is perfect, lower is better",
    "temperature": "a number fitted on val that softens (above 1) or sharpens (below 1) probabilities",
    "KL from teacher": "how far the student's probabilities are from the teacher's (Kullback-Leibler)",
    "p (Holm)": "the chance of such a difference where there is none (McNemar's test), corrected for "
    "the number of questions asked (Holm)",
    "p": "the chance of such a difference where there is none",
    "loss": "mean surprise at the true class (cross entropy): lower is better",
    "signal to noise, dB": "how much larger the values of a layer are than their error: 20 dB is a tenth",
    "ms/image": "milliseconds for one image on one thread of the computer that ran this",
}
# headings and cells that say the same in other words
ALIKE = {
    "student distilled": "distilled",
    "macro AUC": "AUC",
    "accuracy without copies": "copy",
    "without copies": "copy",
    "ECE, scaled": "ECE",
    "Brier, scaled": "Brier",
}


def explained(text: object) -> str:
    """What a heading or a cell means; "" where it goes without saying."""
    word = str(text)
    return WORDS.get(ALIKE.get(word, word), "")
