"""Series and multi-frame DICOM files to answers by slice and by study, and those to structured reports.

`slices` takes DICOM files apart, `study` puts what is said of slices together, `structured_report` writes it
down. It decides no probability: every slice is answered by `Predictor`. A report names the patient of its
source, since it is of no use without; no other output does.
"""
