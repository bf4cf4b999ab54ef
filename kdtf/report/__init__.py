"""What people read of a run: CSV tables, pictures and `report.html`, from the records of finished models.

A table is a row of `tables`, a picture a row of `gallery`; `page` needs nothing but the files themselves.
Scores come from `evidence`; nothing is decided here, and Keras is never imported.
"""
